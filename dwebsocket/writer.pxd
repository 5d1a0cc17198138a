# C types of writer.py, for Cython.

from .protocol cimport Protocol
from .registry cimport Heartbeat
from .syscalls cimport send

cdef object _OPEN

cdef class Writer:
    # What every message needs first, together.
    cdef object _sock
    cdef object _outbox
    cdef readonly Protocol protocol
    cdef readonly Heartbeat _heartbeat
    cdef public double heard_at
    cdef public Py_ssize_t bytes_out
    cdef public Py_ssize_t messages_out
    cdef int _fd
    cdef bint _is_tls
    cdef object _hub
    cdef Py_ssize_t _outbox_size
    cdef object _pong
    cdef Py_ssize_t _send_buffer_size
    cdef list _senders
    cdef object _writer
    cdef object _backlog
    cdef readonly str slow_consumer

    cpdef _queue(self, bytes frame)
    cdef Py_ssize_t _write(self, bytes frame) except -1
    cpdef _start_outbox(self, frame)
    cpdef _append(self, frame)
    cpdef _queue_backlog(self)
    cpdef _drop_outbox(self)
    cpdef _wake_senders(self)
    cpdef _after_flush(self)
    cpdef _on_error(self)
