# C types of transport.py, for Cython.

import cython

from .encoder cimport Broadcast
from .inbox cimport switch_to
from .protocol cimport Protocol
from .stream cimport Stream

cdef object _OPEN
cdef Py_ssize_t _LONG
cdef object getcurrent

cdef class Transport(Stream):
    cpdef object receive(self, timeout=*)
    cpdef send(self, message)
    cpdef post(self, Broadcast broadcast, str policy, key=*)
    cdef _wait_for_message(self, timeout)
    cdef _send(self, bytes frame)
    @cython.locals(header=bytes, payload=bytes, sent=Py_ssize_t)
    cdef _send_long(self, message)
    cdef _wait_for_drain(self)
