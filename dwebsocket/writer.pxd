# C types of writer.py, for Cython.

from .protocol cimport Protocol
from .registry cimport Heartbeat
from .syscalls cimport send

cdef class Writer:
    cdef int _fd
    cdef readonly Heartbeat _heartbeat
    cdef object _hub
    cdef bint _is_tls
    cdef object _outbox
    cdef Py_ssize_t _outbox_size
    cdef object _pong
    cdef Py_ssize_t _send_buffer_size
    cdef list _senders
    cdef object _sock
    cdef object _writer
    cdef public Py_ssize_t bytes_out
    cdef public double heard_at
    cdef public Py_ssize_t messages_out
    cdef readonly Protocol protocol

    cpdef _queue(self, bytes frame)
    cpdef _start_outbox(self, frame)
    cpdef _append(self, frame)
    cpdef _drop_outbox(self)
    cpdef _wake_senders(self)
    cpdef _after_flush(self)
    cpdef _on_error(self)
