# C types of syscalls.py, for Cython, and what is shorter in C.

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/socket.h>

    /* Descriptors are non-blocking, so the GIL isn't worth releasing; while it is
       held nothing else uses the buffer. */
    static char dwebsocket_buffer[65536];

    static PyObject *dwebsocket_receive(int fd)
    {
        Py_ssize_t size = recv(fd, dwebsocket_buffer, sizeof dwebsocket_buffer, 0);
        if (size >= 0)
            return PyBytes_FromStringAndSize(dwebsocket_buffer, size);
        return PyErr_SetFromErrno(PyExc_OSError);
    }

    static Py_ssize_t dwebsocket_send(int fd, PyObject *frame)
    {
        Py_ssize_t sent = send(fd, PyBytes_AS_STRING(frame),
                               PyBytes_GET_SIZE(frame), MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return 0;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    """
    bytes dwebsocket_receive(int fd)
    Py_ssize_t dwebsocket_send(int fd, object frame) except -1

cdef inline bytes _receive(int fd):
    return dwebsocket_receive(fd)

cdef inline Py_ssize_t _send(int fd, bytes frame) except -1:
    return dwebsocket_send(fd, frame)

cpdef bytes receive(sock, int fd)
cpdef Py_ssize_t send(sock, int fd, bytes frame) except -1
