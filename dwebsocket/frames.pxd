# C types of frames.py, and what is shorter in C.

import cython

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Eight bytes at a time, which a compiler makes 16 or 32 of. */
    static void dwebsocket_mask(const unsigned char *in, unsigned char *out,
                                Py_ssize_t length, const unsigned char *mask)
    {
        uint64_t word, value;
        Py_ssize_t i = 0;
        memcpy(&word, mask, 4);
        memcpy((char *)&word + 4, mask, 4);
        for (; i + 8 <= length; i += 8) {
            memcpy(&value, in + i, 8);
            value ^= word;
            memcpy(out + i, &value, 8);
        }
        for (; i < length; i++)
            out[i] = in[i] ^ mask[i & 3];
    }

    static PyObject *dwebsocket_unmasked(const unsigned char *data,
                                         Py_ssize_t length,
                                         const unsigned char *mask)
    {
        PyObject *result = PyBytes_FromStringAndSize(NULL, length);
        if (result != NULL)
            dwebsocket_mask(data, (unsigned char *)PyBytes_AS_STRING(result),
                            length, mask);
        return result;
    }

    static PyObject *dwebsocket_encode_short(int opcode, const char *payload,
                                             Py_ssize_t length)
    {
        PyObject *result = PyBytes_FromStringAndSize(NULL, length + 2);
        if (result != NULL) {
            char *frame = PyBytes_AS_STRING(result);
            frame[0] = (char)(0x80 | opcode);
            frame[1] = (char)length;
            memcpy(frame + 2, payload, length);
        }
        return result;
    }
    """
    void dwebsocket_mask(
        const unsigned char *source, unsigned char *target, Py_ssize_t length,
        const unsigned char *mask
    )
    bytes dwebsocket_unmasked(
        const unsigned char *data, Py_ssize_t length, const unsigned char *mask
    )
    bytes dwebsocket_encode_short(int opcode, const char *payload, Py_ssize_t length)

cdef inline bytes _apply_mask(
    bytes data, Py_ssize_t start, Py_ssize_t length, bytes mask
):
    cdef const unsigned char *octets = data
    return dwebsocket_unmasked(octets + start, length, mask)

cdef inline bytes _unmask(bytes data, Py_ssize_t start, Py_ssize_t length):
    cdef const unsigned char *octets = data
    return dwebsocket_unmasked(octets + start + 4, length, octets + start)

cdef inline _apply_mask_within(
    bytearray data, bytes mask, Py_ssize_t start, Py_ssize_t end
):
    cdef unsigned char *octets = data
    dwebsocket_mask(octets + start, octets + start, end - start, mask)

cdef inline bytes _encode_short(int opcode, bytes payload, Py_ssize_t length):
    return dwebsocket_encode_short(opcode, payload, length)

cpdef bytes encode_frame(int opcode, bytes payload)
cpdef bytes unmask(bytes data, Py_ssize_t start, Py_ssize_t length)

@cython.locals(
    available=Py_ssize_t, first=int, second=int, opcode=int, start=Py_ssize_t
)
cpdef tuple parse_header(bytes data, Py_ssize_t position)
