# C types of registry.py, for Cython.

cdef class Heartbeat:
    cdef readonly double clock
    cdef object _interval
    cdef object _timeout
    cdef list _slices
    cdef object _next_slice
    cdef object _timer
    cdef object _ticks
    cdef double _ticked_at
    cdef double _period
