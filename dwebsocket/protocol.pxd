# C types of protocol.py, for Cython.

import cython

from .encoder cimport Encoder
from .frames cimport encode_frame, parse_header, unmask
from .message cimport IncomingMessage, unmask_text

cdef object _CLOSED
cdef object _OPEN
cdef Py_ssize_t _LONG

cdef class Protocol(Encoder):
    cdef object _control
    cdef bint _fin
    cdef Py_ssize_t _inflated_size
    cdef bytes _mask
    cdef Py_ssize_t _max_message_size
    cdef int _opcode
    cdef Py_ssize_t _remaining
    cdef bytes _unparsed
    cdef public object close_code
    cdef public str close_reason
    cdef public bint close_received
    cdef public bint close_sent
    cdef public str closed_by
    cdef public bint is_held
    cdef readonly IncomingMessage message
    cdef public bytes pong
    cdef public list replies
    cdef public object state

    @cython.locals(octets=bytes)
    cpdef list receive_data(self, data)

    @cython.locals(
        messages=list,
        position=Py_ssize_t,
        first=int,
        length=Py_ssize_t,
        start=Py_ssize_t,
        end=Py_ssize_t,
    )
    cdef receive_octets(self, const unsigned char *octets, Py_ssize_t size)

    @cython.locals(incoming=IncomingMessage)
    cpdef object get_buffer(self)

    @cython.locals(incoming=IncomingMessage, is_last=bint)
    cpdef list buffer_filled(self, Py_ssize_t size)
    cdef _turn_mask(self, Py_ssize_t size)

    @cython.locals(position=Py_ssize_t, end=Py_ssize_t, taken=Py_ssize_t)
    cdef _parse(self, bytes data, list messages)

    @cython.locals(incoming=IncomingMessage, is_last=bint, is_open=bint, size=Py_ssize_t)
    cdef _receive_payload(self, payload, list messages)
