"""The server's side of the opening handshake, RFC 6455 section 4.

Reads a WSGI environ (PEP 3333), raises HandshakeError for what must be refused
and gives the headers of the 101 response.  Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .exceptions import HandshakeError

__all__ = [
    "BEARER",
    "accept_key",
    "check_origin",
    "check_request",
    "check_response_headers",
    "choose_subprotocol",
    "is_probe",
    "is_websocket_request",
    "parse_extensions",
    "parse_subprotocols",
]

Environ = Mapping[str, Any]

#: Section 1.3.
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: The subprotocol that a client offers along with a token.
BEARER = "bearer"

#: Section 4.4: the only version of this server.
_VERSION = "13"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_token = re.compile(_TOKEN)
# Section 9.1: extension-param = token [ "=" (token | quoted-string) ], where the
# value "after removing the quotes" must be a token as well.
_extension_parameter = re.compile(
    rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"({_TOKEN})"))?'
)
# "a base64-encoded value that, when decoded, is 16 bytes in length" (section 4.2.1)
_key = re.compile(r"[0-9A-Za-z+/]{22}==")
# A name or an IPv6 address, and a port: no user, no white space.
_netloc = re.compile(r"(?:[^][\s@:]+|\[[^][\s@]*:[^][\s@]*\])(?::[0-9]*)?")
_http_version = re.compile(r"HTTP/([0-9])(?:\.([0-9]))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}

#: What the 101 response says itself, or what has no place in it.
_RESERVED_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "content-type",
        "keep-alive",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def is_websocket_request(environ: Environ) -> bool:
    """Tell whether the request asks for a WebSocket, well-formed or not."""
    upgrade = environ.get("HTTP_UPGRADE", "")
    return "websocket" in upgrade.lower() and "websocket" in _tokens(upgrade)


def is_probe(environ: Environ) -> bool:
    """Tell whether a plain request asks how a WebSocket would be answered.

    Browsers don't tell scripts how a handshake was refused, so ``dwebsocket.js`` asks
    again by a GET with the header ``WebSocket-Probe``.  No page of another origin can
    set that unless CORS lets it.
    """
    return (
        "HTTP_WEBSOCKET_PROBE" in environ
        and environ.get("REQUEST_METHOD") == "GET"
        and not is_websocket_request(environ)
    )


def check_request(environ: Environ) -> None:
    """Check a WebSocket request, section 4.2.1.

    Raises HandshakeError: 426 for another version, 400 for everything else.
    """
    # "The method of the request MUST be GET, and the HTTP version MUST be at
    # least 1.1."
    if environ.get("REQUEST_METHOD") != "GET":
        raise HandshakeError("A WebSocket request has to be a GET.")
    match = _http_version.fullmatch(environ.get("SERVER_PROTOCOL", ""))
    # HTTP/2 and 3 have no Upgrade header (RFC 8441, RFC 9220).
    if match is None or (match[1], match[2] or "0") < ("1", "1") or match[1] > "1":
        raise HandshakeError("A WebSocket request has to be HTTP/1.1.")
    if "upgrade" not in _tokens(environ.get("HTTP_CONNECTION", "")):
        raise HandshakeError("The Connection header doesn't name Upgrade.")
    if not environ.get("HTTP_HOST"):
        raise HandshakeError("The Host header is missing.")
    # What a body would mean here, no RFC says; read as frames by one side and
    # as a body by the other, it would smuggle data past a proxy.  Where it ends,
    # and another request starts, they may differ about too.
    if environ.get("CONTENT_LENGTH") not in (None, "", "0") or environ.get(
        "HTTP_TRANSFER_ENCODING"
    ):
        raise HandshakeError(
            "A WebSocket request has no body.", headers={"Connection": "close"}
        )
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip(" \t")
    if version != _VERSION:
        # Section 4.4.
        raise HandshakeError(
            f"This server speaks WebSocket version {_VERSION}.",
            status_code=426,
            headers={
                "Sec-WebSocket-Version": _VERSION,
                "Upgrade": "websocket",
                "Connection": "Upgrade",
            },
        )
    _parse_key(environ)
    parse_subprotocols(environ)
    parse_extensions(environ)


def accept_key(environ: Environ) -> str:
    """Return the value of Sec-WebSocket-Accept, section 4.2.2."""
    key = _parse_key(environ)
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _parse_key(environ: Environ) -> str:
    key: str = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip(" \t")
    if not _key.fullmatch(key):
        raise HandshakeError("Sec-WebSocket-Key isn't 16 bytes in base64.")
    return key


def parse_subprotocols(environ: Environ) -> list[str]:
    """Return the subprotocols that the client offers, in its order."""
    header = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")
    if header is None:
        return []
    # "The elements that comprise this value MUST be non-empty strings (...) and
    # MUST all be unique strings" (section 4.1).
    offered = [part.strip(" \t") for part in header.split(",")]
    if not all(map(_token.fullmatch, offered)) or len(set(offered)) < len(offered):
        raise HandshakeError("Sec-WebSocket-Protocol is malformed.")
    return offered


def choose_subprotocol(offered: Iterable[str], supported: Iterable[str]) -> str | None:
    """Return the first of ``supported`` that the client offered, or None.

    BEARER is always supported: browsers that offer something want an answer.
    """
    offered = set(offered)
    return next((name for name in (*supported, BEARER) if name in offered), None)


def parse_extensions(
    environ: Environ,
) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Return the extensions that the client offers, section 9.1.

    Each is ``(name, [(parameter, value or None), ...])``.
    """
    header = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS")
    offered: list[tuple[str, list[tuple[str, str | None]]]] = []
    if header is None:
        return offered
    # A value is a token even in quotes, so no comma can hide in one.
    for offer in header.split(","):
        offer = offer.strip(" \t")
        match = _token.match(offer)
        if match is None:
            raise HandshakeError("Sec-WebSocket-Extensions is malformed.")
        position = match.end()
        parameters: list[tuple[str, str | None]] = []
        while position < len(offer):
            parameter = _extension_parameter.match(offer, position)
            if parameter is None:
                raise HandshakeError("Sec-WebSocket-Extensions is malformed.")
            parameters.append((parameter[1], parameter[2] or parameter[3]))
            position = parameter.end()
        offered.append((match[0], parameters))
    return offered


def check_origin(
    environ: Environ,
    *,
    host: str,
    is_secure: bool,
    allowed: Sequence[str] | str | None,
) -> None:
    """Refuse a browser's request from a foreign page, section 10.2.

    ``allowed`` holds origins like ``"https://example.com"`` or
    ``"https://*.example.com"``; ``"*"``, alone or among them, is any; None is
    the request's own ``host`` ("name" or "name:port").  A request without
    Origin isn't a browser's and passes.  Raises HandshakeError 403.
    """
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        return
    if allowed is None:
        is_allowed = _is_own_origin(origin, host, is_secure)
    else:
        patterns = [allowed] if isinstance(allowed, str) else allowed
        is_allowed = any(_matches_origin(origin, pattern) for pattern in patterns)
    if not is_allowed:
        raise HandshakeError("This origin isn't allowed.", status_code=403)


def check_response_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> list[tuple[str, str]]:
    """Return a view's own headers for the 101 response as a list.

    Raises ValueError for a header that the handshake itself makes and for
    anything that could end the header line.
    """
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        headers = headers.items()
    checked = []
    for name, value in headers:
        if not _token.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        lower = name.lower()
        if lower in _RESERVED_HEADERS or lower.startswith("sec-websocket-"):
            raise ValueError(f"the handshake itself makes the {name} header")
        if any(char in value for char in "\r\n\0"):
            raise ValueError(f"line break in the value of the {name} header")
        checked.append((name, value))
    return checked


def _tokens(header: str) -> list[str]:
    return [part.strip(" \t").lower() for part in header.split(",")]


def _split_origin(origin: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port in canonical form; None if malformed."""
    origin = origin.lower()
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    # RFC 6454 section 6.2: scheme, host and port are all that an origin has;
    # urlsplit takes user names and more, and drops line breaks silently; before
    # Python 3.11.4 it takes any name in brackets for an IPv6 address, and doesn't
    # look at what is behind them.
    if (
        not parts.hostname
        or not _netloc.fullmatch(parts.netloc)
        or origin != f"{parts.scheme}://{parts.netloc}"
    ):
        return None
    if port is None:
        port = _DEFAULT_PORTS.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _is_own_origin(origin: str, host: str, is_secure: bool) -> bool:
    if not _netloc.fullmatch(host):
        return False
    # As browsers write it.
    if origin == f"https://{host}" or (not is_secure and origin == f"http://{host}"):
        return True
    own = _split_origin(origin)
    # TLS may end at a proxy that doesn't tell: then the scheme is the origin's.
    # Other schemes are apps and extensions, whatever they call their host.
    schemes = ("https",) if is_secure else ("http", "https")
    if own is None or own[0] not in schemes:
        return False
    return own == _split_origin(f"{own[0]}://{host}")


def _matches_origin(origin: str, pattern: str) -> bool:
    if pattern == "*" or origin.lower() == pattern.lower():
        return True
    actual = _split_origin(origin)
    if actual is None:
        return False
    scheme, separator, rest = pattern.lower().partition("://*.")
    if not separator:
        return actual == _split_origin(pattern)
    wanted = _split_origin(f"{scheme}://{rest}")
    return (
        wanted is not None
        and actual[0] == wanted[0]
        and (actual[1] == wanted[1] or actual[1].endswith("." + wanted[1]))
        and actual[2] == wanted[2]
    )
