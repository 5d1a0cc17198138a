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

    static int dwebsocket_is_ascii(const unsigned char *octets, Py_ssize_t length)
    {
        uint64_t value, all = 0;
        Py_ssize_t i = 0;
        for (; i + 8 <= length; i += 8) {
            memcpy(&value, octets + i, 8);
            all |= value;
        }
        for (; i < length; i++)
            all |= octets[i];
        return !(all & UINT64_C(0x8080808080808080));
    }

    /* Not yet known to be ASCII, the string is one that nobody has seen. */
    static PyObject *dwebsocket_unmasked_text(const unsigned char *data,
                                              Py_ssize_t length,
                                              const unsigned char *mask)
    {
        PyObject *text, *decoded;
        unsigned char *octets;
        if (length == 0)
            return PyUnicode_FromStringAndSize(NULL, 0);
        if ((text = PyUnicode_New(length, 127)) == NULL)
            return NULL;
        octets = PyUnicode_1BYTE_DATA(text);
        dwebsocket_mask(data, octets, length, mask);
        if (dwebsocket_is_ascii(octets, length))
            return text;
        decoded = PyUnicode_DecodeUTF8((char *)octets, length, "strict");
        Py_DECREF(text);
        return decoded;
    }

    static PyObject *dwebsocket_encode(int opcode, const char *payload,
                                       Py_ssize_t length)
    {
        int size = length < 126 ? 2 : length < 0x10000 ? 4 : 10, i;
        PyObject *result = PyBytes_FromStringAndSize(NULL, size + length);
        if (result != NULL) {
            char *frame = PyBytes_AS_STRING(result);
            frame[0] = (char)(0x80 | opcode);
            frame[1] = (char)(size == 2 ? length : size == 4 ? 126 : 127);
            for (i = 2; i < size; i++)
                frame[i] = (char)(length >> 8 * (size - 1 - i));
            memcpy(frame + size, payload, length);
        }
        return result;
    }

    static PyObject *dwebsocket_encode_ascii(PyObject *text)
    {
        return dwebsocket_encode(1, (char *)PyUnicode_1BYTE_DATA(text),
                                 PyUnicode_GET_LENGTH(text));
    }
    """
    void dwebsocket_mask(
        const unsigned char *source, unsigned char *target, Py_ssize_t length,
        const unsigned char *mask
    )
    bytes dwebsocket_unmasked(
        const unsigned char *data, Py_ssize_t length, const unsigned char *mask
    )
    bint dwebsocket_is_ascii(const unsigned char *octets, Py_ssize_t length)
    str dwebsocket_unmasked_text(
        const unsigned char *data, Py_ssize_t length, const unsigned char *mask
    )
    bytes dwebsocket_encode(int opcode, const char *payload, Py_ssize_t length)
    bytes dwebsocket_encode_ascii(str text)

cdef inline bytes _apply_mask(
    bytes data, Py_ssize_t start, Py_ssize_t length, bytes mask
):
    cdef const unsigned char *octets = data
    return dwebsocket_unmasked(octets + start, length, mask)

cdef inline bytes _unmask(
    const unsigned char *data, Py_ssize_t start, Py_ssize_t length
):
    return dwebsocket_unmasked(data + start + 4, length, data + start)

cdef inline _apply_mask_within(
    bytearray data, bytes mask, Py_ssize_t start, Py_ssize_t end
):
    cdef unsigned char *octets = data
    dwebsocket_mask(octets + start, octets + start, end - start, mask)

cdef inline bint _is_ascii_within(bytearray data, Py_ssize_t start, Py_ssize_t end):
    cdef const unsigned char *octets = data
    return dwebsocket_is_ascii(octets + start, end - start)

cdef inline str _unmask_text(
    const unsigned char *data, Py_ssize_t start, Py_ssize_t length
):
    return dwebsocket_unmasked_text(data + start + 4, length, data + start)

cdef inline bytes _encode(int opcode, bytes payload):
    return dwebsocket_encode(opcode, payload, len(payload))

cdef inline bytes _encode_ascii(str text):
    return dwebsocket_encode_ascii(text)

cpdef bint is_ascii_within(bytearray data, Py_ssize_t start, Py_ssize_t end)
cpdef bytes encode_frame(int opcode, bytes payload)
cpdef bytes unmask(const unsigned char *data, Py_ssize_t start, Py_ssize_t length)

@cython.locals(
    available=Py_ssize_t, first=int, second=int, opcode=int, start=Py_ssize_t
)
cpdef tuple parse_header(bytes data, Py_ssize_t position)
