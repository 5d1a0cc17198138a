# What is shorter in C than the methods of a socket.

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/socket.h>

    /* Descriptors are non-blocking, so the GIL isn't worth releasing. */
    static Py_ssize_t dwebsocket_receive(int fd, PyObject *buffer)
    {
        Py_ssize_t size = recv(fd, PyByteArray_AS_STRING(buffer),
                               PyByteArray_GET_SIZE(buffer), 0);
        if (size < 0)
            PyErr_SetFromErrno(PyExc_OSError);
        return size;
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
    Py_ssize_t dwebsocket_receive(int fd, object buffer) except -1
    Py_ssize_t dwebsocket_send(int fd, object frame) except -1

# Returns how many bytes have come into the buffer; 0 is the end.
cdef inline Py_ssize_t receive(int fd, bytearray buffer) except -1:
    return dwebsocket_receive(fd, buffer)

# Returns how many bytes of a frame the system takes now.
cdef inline Py_ssize_t send(int fd, bytes frame) except -1:
    return dwebsocket_send(fd, frame)
