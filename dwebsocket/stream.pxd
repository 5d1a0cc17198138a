# C types of stream.py, for Cython.

from .protocol cimport Protocol
from .syscalls cimport receive
from .writer cimport Writer

cdef object _OPEN

cdef class Stream(Writer):
    cdef object __weakref__
    cdef object _close_timeout
    cdef object _close_timer
    cdef object _inbox
    cdef Py_ssize_t _inbox_size
    cdef bint _is_half_closed
    cdef bint _is_paused
    cdef Py_ssize_t _max_inbox_size
    cdef Py_ssize_t _max_queue
    cdef object _on_end
    cdef bint _owns_socket
    cdef object _ping
    cdef object _reader
    cdef list _receivers
    cdef public Py_ssize_t bytes_in
    cdef public object latency
    cdef public Py_ssize_t messages_in
    cdef public double pinged_at
    cdef public int slice_

    cpdef _receive(self, bytes data, Py_ssize_t size)
    cdef _store(self, list messages)
    cdef _switch_to(self, receiver, message)
    cpdef _wake_receivers(self)
    cdef _resume_below_limit(self)
    cdef _pause(self)
    cpdef _resume(self)
