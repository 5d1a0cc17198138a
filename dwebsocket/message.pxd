# C types of message.py, for Cython.

from .frames cimport _unmask_text, is_ascii_within, unmask

cdef extern from *:
    # What it adds has any content.
    int _resize "PyByteArray_Resize" (bytearray data, Py_ssize_t length) except -1

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
cpdef str unmask_text(const unsigned char *data, Py_ssize_t start, Py_ssize_t length)
