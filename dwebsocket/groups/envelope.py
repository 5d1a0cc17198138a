"""What travels to the members of a group, and its form outside of the process.

It goes to a channel: a group ("g:" and its name), a user ("u:" and the primary key), a
process ("p:" and its id), all connections, or what ``rechecks`` has for all logins.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..exceptions import ProtocolError
from ..frames import CloseCode, Opcode, encode_close, parse_close

__all__ = [
    "CONTROL",
    "EVERYONE",
    "GROUP",
    "MAX_SIZE",
    "PROCESS",
    "USER",
    "Envelope",
    "make_close",
    "make_message",
]

#: What the names of channels begin with.
GROUP, USER, PROCESS = "g:", "u:", "p:"
#: The channel of all processes that have connections.
EVERYONE = "a:all"

#: Opcode of what isn't for clients but for the process: see ``rechecks`` and
#: ``connections``.
CONTROL = 0

#: Bytes of a message.
MAX_SIZE = 16 * 1024 * 1024

# Version, opcode, lengths of target, exclude and key; these and the payload follow.
_HEADER = struct.Struct("!BBBBH")
_VERSION = 1
_NO_KEY = 0xFFFF
_OPCODES = (CONTROL, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE)


class Envelope(NamedTuple):
    """A message, or a close, for the connections that hear a channel.

    ``opcode`` is TEXT, BINARY, CLOSE or CONTROL; ``target`` the id of the only
    websocket that gets it, ``exclude`` of the one that doesn't; with the same ``key`` a
    newer message may replace an older one.
    """

    opcode: int
    payload: bytes
    target: str | None = None
    exclude: str | None = None
    key: str | None = None

    def encode(self) -> bytes:
        """Return the bytes from which ``decode`` makes it again."""
        target = (self.target or "").encode()
        exclude = (self.exclude or "").encode()
        key = b"" if self.key is None else self.key.encode()
        key_size = _NO_KEY if self.key is None else len(key)
        sizes = (len(target), len(exclude), key_size)
        header = _HEADER.pack(_VERSION, self.opcode, *sizes)
        return b"".join((header, target, exclude, key, self.payload))

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """Return what ``encode`` has made the bytes of.

        Raises ValueError for what that of this version can't have made.
        """
        try:
            version, opcode, *sizes = _HEADER.unpack_from(data)
        except struct.error as exc:
            raise ValueError("a message for a group is cut off") from exc
        if version != _VERSION:
            raise ValueError(f"a message for a group has the form {version}")
        if opcode not in _OPCODES:
            raise ValueError(f"a message for a group has the opcode {opcode}")
        position = _HEADER.size
        fields: list[str | None] = []
        for size in sizes:
            end = position + (0 if size == _NO_KEY else size)
            fields.append(data[position:end].decode())
            position = end
        if position > len(data):
            raise ValueError("a message for a group is cut off")
        target, exclude, key = fields
        if sizes[2] == _NO_KEY:
            key = None
        envelope = cls(opcode, data[position:], target or None, exclude or None, key)
        if opcode == Opcode.CLOSE:
            envelope._check_close()
        return envelope

    def _check_close(self) -> None:
        try:
            encode_close(*self.parse_close())
        except ProtocolError as exc:
            raise ValueError(f"a close for a group: {exc}") from exc

    def parse_close(self) -> tuple[int | None, str]:
        """Return code and reason of a close."""
        code, reason = parse_close(self.payload)
        return None if code == CloseCode.NO_STATUS_RECEIVED else code, reason


def make_message(
    message: str | bytes | bytearray | memoryview,
    *,
    target: str | None = None,
    exclude: str | None = None,
    key: str | None = None,
) -> Envelope:
    """Raises TypeError and ValueError for what can't be a message."""
    if isinstance(message, str):
        opcode, payload = Opcode.TEXT, str.encode(message)
    elif isinstance(message, (bytes, bytearray, memoryview)):
        opcode, payload = Opcode.BINARY, bytes(message)
    else:
        raise TypeError(f"a message is str or bytes-like, not {type(message).__name__}")
    if len(payload) > MAX_SIZE:
        raise ValueError(f"a message for a group is at most {MAX_SIZE} bytes")
    if key is not None and len(key.encode()) > 200:
        raise ValueError("a key is at most 200 bytes")
    return Envelope(int(opcode), payload, target, exclude, key)


def make_close(code: int | None, reason: str, *, target: str | None = None) -> Envelope:
    """Raises ValueError for a code or reason that must not be sent."""
    return Envelope(int(Opcode.CLOSE), encode_close(code, reason), target)
