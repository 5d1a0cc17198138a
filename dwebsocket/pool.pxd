# C types of pool.py, for Cython.

import cython

from .protocol cimport Protocol
from .transport cimport Transport
from .websocket cimport WebSocket

cdef object _OPEN
cdef object getcurrent

cdef class Listener:
    cdef object _conversation
    cdef object _handler
    cdef tuple _setters
    cdef Transport _transport
    cdef WebSocket _websocket

    @cython.locals(transport=Transport, was_open=bint)
    cdef handle(self)
    @cython.locals(transport=Transport, protocol=Protocol, is_open=bint)
    cpdef go_on(self, bint was_open)

cdef class Pool:
    cdef public object size
    cdef readonly Py_ssize_t _running
    cdef readonly object _waiting
    cdef object _spare

    cpdef start(self, Listener listener)
    cdef bint _has_room(self) except -1
    cdef _start(self, Listener listener)
    @cython.locals(transport=Transport)
    cpdef _run(self, Listener listener)
