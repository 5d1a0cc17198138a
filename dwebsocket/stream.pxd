# C types of stream.py, for Cython.

import cython

from .inbox cimport Inbox
from .protocol cimport Protocol
from .syscalls cimport receive

cdef object _OPEN

cdef class Stream(Inbox):
    cdef public Py_ssize_t bytes_in
    cdef bint _is_paused
    cdef object __weakref__
    cdef object _close_timeout
    cdef object _close_timer
    cdef bint _is_half_closed
    cdef object _on_end
    cdef bint _owns_socket
    cdef object _ping
    cdef object _reader
    cdef public object latency
    cdef public double pinged_at
    cdef public int slice_

    @cython.locals(protocol=Protocol)
    cpdef _on_received(self, received, Py_ssize_t size)
    cdef _resume_below_limit(self)
    cdef _pause(self)
    cpdef _resume(self)
    @cython.locals(protocol=Protocol, buffer=bytearray, size=Py_ssize_t)
    cpdef _on_readable(self)
