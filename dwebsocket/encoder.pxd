# C types of encoder.py, for Cython.

import cython

from .frames cimport encode_frame

cdef bytes _encode_text(str text)

cdef class Encoder:
    cdef object _deflate

    @cython.locals(opcode=int, payload=bytes)
    cpdef bytes encode_message(self, message)
    cpdef tuple encode_long(self, message)
