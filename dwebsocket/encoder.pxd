# C types of encoder.py, for Cython.

import cython

from .frames cimport _encode_ascii, encode_frame

cdef extern from *:
    bint _is_ascii "PyUnicode_IS_ASCII" (object text)

cdef class Broadcast:
    cdef readonly dict frames
    cdef readonly int opcode
    cdef readonly bytes payload

cdef class Encoder:
    cdef object _deflate

    @cython.locals(opcode=int, payload=bytes)
    cpdef bytes encode_message(self, message)
    @cython.locals(frame=bytes)
    cpdef bytes encode_broadcast(self, Broadcast broadcast)
    cdef bytes _encode(self, int opcode, bytes payload)
    cpdef tuple encode_long(self, message)
