"""The 101 response, which the server's iteration turns into a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse

from . import handshake
from .conversation import Conversation
from .gateway import Gateway

__all__ = ["SwitchingProtocols"]

#: Headers of others that have no place in the response.
_FINAL = frozenset(("connection", "transfer-encoding", "upgrade"))
_FINAL_PREFIXES = ("content-", "sec-websocket-")


class SwitchingProtocols(HttpResponse):
    """The 101 response, which the server's iteration turns into a connection."""

    status_code = 101

    def __init__(self, conversation: Conversation, gateway: Gateway) -> None:
        super().__init__()
        self._conversation = conversation
        self._gateway = gateway
        self._is_started = False
        self._headers: list[tuple[str, str]] = []
        self._on_close: tuple[Any, bytes] | None = None
        self._accept_key = handshake.accept_key(conversation.request.META)
        for name, value in conversation.headers:
            if name.lower() == "set-cookie":
                self.cookies.load(value)
            else:
                self[name] = f"{self[name]}, {value}" if name in self else value

    def __del__(self) -> None:
        # A middleware returned another response instead, or the server failed.
        if not self._is_started:
            self.abort()

    def items(self) -> list[tuple[str, str]]:
        """Return all headers but the cookies, the handshake's being final."""
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", self._accept_key),
        ]
        if self._conversation.subprotocol is not None:
            headers.append(("Sec-WebSocket-Protocol", self._conversation.subprotocol))
        extension = self._conversation.extension
        if extension is not None:
            headers.append(("Sec-WebSocket-Extensions", extension[0]))
        for name, value in self.headers.items():
            lower = name.lower()
            if lower not in _FINAL and not lower.startswith(_FINAL_PREFIXES):
                headers.append((name, value))
        self._headers = headers
        return headers

    def __iter__(self) -> Iterator[bytes]:
        return self._gateway.respond(self)

    def close(self) -> None:
        self.finish_request()
        if self._on_close is not None:
            (sock, received), self._on_close = self._on_close, None
            self.start(sock, received, owns_socket=True)

    # gateway.Switch

    def head(self) -> bytes:
        cookies = (("Set-Cookie", c.OutputString()) for c in self.cookies.values())
        # Django has just asked for them, to tell the server.
        headers = self._headers or self.items()
        lines = [f"{name}: {value}\r\n" for name, value in (*headers, *cookies)]
        head = f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n"
        return head.encode("latin-1")

    def finish_request(self) -> None:
        if not self.closed:
            super().close()

    def on_close(self, sock: Any, received: bytes) -> None:
        self._on_close = (sock, received)

    def start(self, sock: Any, received: bytes, *, owns_socket: bool) -> None:
        self._is_started = True
        self._conversation.start(sock, received, owns_socket=owns_socket)

    def abort(self) -> None:
        self._is_started = True
        self._conversation.abort()

    def wait(self) -> None:
        self._conversation.wait()
