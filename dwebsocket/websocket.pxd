# C types of websocket.py, for Cython.

from .transport cimport Transport

cdef class WebSocket:
    cdef object __weakref__
    cdef object _id
    cdef object _memberships
    cdef public object _on_message
    cdef public object _opener
    cdef public Transport _transport
    cdef public object subprotocol
    cdef public object user_id

    cpdef object wait(self, timeout=*)
    cpdef send(self, message)
    cdef Transport _accepted(self)
