# C types of inbox.py, for Cython, and what is shorter in C.

import cython

from .writer cimport Writer

cdef extern from *:
    """
    /* PyGreenlet_Switch of greenlet.h, whose numbers and types don't change. */
    typedef PyObject *(*dwebsocket_switch_t)(PyObject *, PyObject *, PyObject *);
    static dwebsocket_switch_t dwebsocket_greenlet_switch = NULL;

    static PyObject *dwebsocket_switch(PyObject *target)
    {
        if (dwebsocket_greenlet_switch == NULL) {
            void **api = (void **)PyCapsule_Import("greenlet._C_API", 0);
            if (api == NULL)
                return NULL;
            dwebsocket_greenlet_switch = (dwebsocket_switch_t)api[6];
        }
        return dwebsocket_greenlet_switch(target, NULL, NULL);
    }
    """
    object dwebsocket_switch(object target)

cdef object _OPEN

cdef inline _switch_in_c(target):
    dwebsocket_switch(target)

cpdef switch_to(target)

cdef class Inbox(Writer):
    cdef object _first
    cdef object _limiter
    cdef object _listener
    cdef object _rest
    cdef object _receiver
    cdef bint _is_due
    cdef _Shared _shared
    cdef Py_ssize_t _inbox_size
    cdef public Py_ssize_t messages_in
    cdef Py_ssize_t _max_inbox_size
    cdef Py_ssize_t _max_queue
    cdef list _receivers

    cpdef Py_ssize_t count_messages(self) except -1
    @cython.locals(messages=list)
    cdef bint _store(self, received) except -1
    cdef _put(self, message)
    cdef _add_receiver(self, receiver)
    cdef bint _discard_receiver(self, receiver)
    @cython.locals(due=list)
    cdef _wake_later(self)
    cpdef next_listener(self)
    cpdef listen(self, listener)

cdef class _Shared:
    cdef readonly bytearray buffer
    cdef public list due
    cdef list _turn
    cdef object _running

    @cython.locals(turn=list)
    cpdef wake(self)
    @cython.locals(inbox=Inbox)
    cdef next_receiver(self)
    @cython.locals(inbox=Inbox)
    cdef next_listener(self)
    @cython.locals(turn=list, inbox=Inbox)
    cdef Inbox _find_next(self)
