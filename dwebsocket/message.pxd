# C types of message.py, for Cython.

cdef class IncomingMessage:
    cdef object _decoder
    cdef Py_ssize_t _filled
    cdef object _inflater
    cdef bint _is_text
    cdef Py_ssize_t _max_size
    cdef bytearray _parts
    cdef readonly Py_ssize_t size

    cpdef announce(self, Py_ssize_t length)
    cpdef object add(self, payload, bint is_last)
    cpdef object reserve(self, Py_ssize_t length)
    cpdef object fill(self, Py_ssize_t size, bytes mask, bint is_last)
    cdef object _take(self, Py_ssize_t size, bint is_last)

cpdef str decode_text(payload)
cdef str _decode_bytes(bytes payload)
