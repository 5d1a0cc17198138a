"""The opening handshake of ``dwebsocket.handshake``, by sections of RFC 6455."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dwebsocket.exceptions import HandshakeError
from dwebsocket.handshake import (
    accept_key,
    check_origin,
    check_request,
    check_response_headers,
    choose_subprotocol,
    is_probe,
    is_websocket_request,
    parse_extensions,
    parse_subprotocols,
)

#: The same examples in every run; more of them, at random, when asked for.
EXAMPLES = settings(
    max_examples=int(os.environ.get("DWEBSOCKET_HYPOTHESIS_EXAMPLES", "300")),
    derandomize="DWEBSOCKET_HYPOTHESIS_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

#: The request of section 1.2, as a server hands it to a WSGI application.
SAMPLE = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "server.example.com",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_ORIGIN": "http://example.com",
    "HTTP_SEC_WEBSOCKET_PROTOCOL": "chat, superchat",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


def sample(**changes: str | None) -> dict[str, str]:
    """Return the sample request with ``changes``; None removes."""
    environ = {**SAMPLE, **changes}
    return {name: value for name, value in environ.items() if value is not None}


# Sections 1.2 and 1.3, the example


def test_1_2_sample_request_is_accepted() -> None:
    assert is_websocket_request(SAMPLE)
    check_request(SAMPLE)


def test_1_3_sample_key() -> None:
    assert accept_key(SAMPLE) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# Section 4.2.1, reading the client's opening handshake


@pytest.mark.parametrize(
    "upgrade, expected",
    [
        ("websocket", True),
        ("WebSocket", True),
        ("WEBSOCKET", True),
        (" websocket\t", True),
        ("h2c, websocket", True),
        ("h2c,websocket,other", True),
        (None, False),
        ("", False),
        ("h2c", False),
        ("websockets", False),
        ("websocket/13", False),
        ("not websocket", False),
        ("websocket;q=1", False),
    ],
)
def test_4_2_1_upgrade_header_names_websocket(
    upgrade: str | None, expected: bool
) -> None:
    assert is_websocket_request(sample(HTTP_UPGRADE=upgrade)) is expected


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, True),
        ({"HTTP_WEBSOCKET_PROBE": None}, False),
        ({"REQUEST_METHOD": "POST"}, False),
        ({"REQUEST_METHOD": "OPTIONS"}, False),
        ({"HTTP_UPGRADE": "websocket"}, False),
    ],
)
def test_probe(changes: dict[str, Any], expected: bool) -> None:
    environ = sample(**{"HTTP_UPGRADE": None, "HTTP_WEBSOCKET_PROBE": "1", **changes})
    assert is_probe(environ) is expected


@pytest.mark.parametrize(
    "changes",
    [
        {"SERVER_PROTOCOL": "HTTP/1.2"},
        {"HTTP_CONNECTION": "upgrade"},
        {"HTTP_CONNECTION": "UPGRADE"},
        {"HTTP_CONNECTION": "keep-alive, Upgrade"},
        {"HTTP_CONNECTION": "Upgrade\t,keep-alive"},
        {"HTTP_HOST": "server.example.com:8000"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "0"},
        {"HTTP_TRANSFER_ENCODING": ""},
        {"HTTP_SEC_WEBSOCKET_VERSION": " 13\t"},
        {"HTTP_SEC_WEBSOCKET_KEY": "\tdGhlIHNhbXBsZSBub25jZQ== "},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": None},
        {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate; client_max_window_bits"},
        {"HTTP_ORIGIN": None},
        {"HTTP_COOKIE": "a=b"},
    ],
    ids=str,
)
def test_4_2_1_request_is_accepted(changes: dict[str, str | None]) -> None:
    check_request(sample(**changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        # "The method of the request MUST be GET"
        ({"REQUEST_METHOD": "POST"}, "has to be a GET"),
        ({"REQUEST_METHOD": "get"}, "has to be a GET"),
        ({"REQUEST_METHOD": "HEAD"}, "has to be a GET"),
        ({"REQUEST_METHOD": "CONNECT"}, "has to be a GET"),
        ({"REQUEST_METHOD": None}, "has to be a GET"),
        # "the HTTP version MUST be at least 1.1"
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/0.9"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/1"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/2"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/2.0"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/3"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/1.10"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/1.1\n"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/\u0661.\u0661"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": "INCLUDED"}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": ""}, "has to be HTTP/1.1"),
        ({"SERVER_PROTOCOL": None}, "has to be HTTP/1.1"),
        # "A |Connection| header field that includes the token "Upgrade""
        ({"HTTP_CONNECTION": "keep-alive"}, "Connection header"),
        ({"HTTP_CONNECTION": "Upgrades"}, "Connection header"),
        ({"HTTP_CONNECTION": "not upgrade"}, "Connection header"),
        ({"HTTP_CONNECTION": ""}, "Connection header"),
        ({"HTTP_CONNECTION": None}, "Connection header"),
        # "A |Host| header field containing the server's authority"
        ({"HTTP_HOST": ""}, "Host header"),
        ({"HTTP_HOST": None}, "Host header"),
        # No body
        ({"CONTENT_LENGTH": "1"}, "has no body"),
        ({"CONTENT_LENGTH": "00"}, "has no body"),
        ({"CONTENT_LENGTH": "-1"}, "has no body"),
        ({"CONTENT_LENGTH": "0, 0"}, "has no body"),
        ({"CONTENT_LENGTH": "x"}, "has no body"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "has no body"),
        ({"HTTP_TRANSFER_ENCODING": "identity"}, "has no body"),
        (
            {"CONTENT_LENGTH": "0", "HTTP_TRANSFER_ENCODING": "chunked"},
            "has no body",
        ),
        # "a base64-encoded value that, when decoded, is 16 bytes in length"
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, "Sec-WebSocket-Key"),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": ""}, "Sec-WebSocket-Protocol"),
        ({"HTTP_SEC_WEBSOCKET_EXTENSIONS": ""}, "Sec-WebSocket-Extensions"),
    ],
    ids=str,
)
def test_4_2_1_request_is_refused(changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(HandshakeError, match=message) as caught:
        check_request(sample(**changes))
    assert caught.value.status_code == 400
    # Where a body ends, others may see elsewhere: nothing is read behind it.
    close = {"Connection": "close"}
    assert caught.value.headers == (close if message == "has no body" else {})


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZQ== x",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j ZQ=",
        "dGhlIHNhbXBsZSBub25jZQ-_",
        "dGhlIHNhbXBsZS!ub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ\u00e9=",
        "dGhlIHNhbXBsZSBub25jZ\u0661==",
        "========================",
        "dGhlIHNhbXBsZ===========",
        "dGhl=IHNhbXBsZSBub25jZQ=",
        base64.b64encode(bytes(15)).decode(),
        base64.b64encode(bytes(17)).decode(),
        base64.b64encode(bytes(18)).decode(),
        # Only spaces and tabs may surround a header's value (RFC 9110 5.5).
        "dGhlIHNhbXBsZSBub25jZQ==\x0b",
        "dGhlIHNhbXBsZSBub25jZQ==\xa0",
    ],
)
def test_4_2_1_key_must_be_16_bytes_in_base64(key: str) -> None:
    for check in (accept_key, check_request):
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Key") as caught:
            check(sample(HTTP_SEC_WEBSOCKET_KEY=key))
        assert caught.value.status_code == 400


@EXAMPLES
@given(st.binary(min_size=16, max_size=16))
def test_4_2_2_accept_is_the_hash_of_key_and_guid(nonce: bytes) -> None:
    key = base64.b64encode(nonce)
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    environ = sample(HTTP_SEC_WEBSOCKET_KEY=key.decode())
    assert accept_key(environ) == base64.b64encode(digest).decode()


# Section 4.4, supporting multiple versions


@pytest.mark.parametrize(
    "version",
    [None, "", "0", "8", "12", "14", "013", "13.0", "13, 8", "1 3", "\u0661\u0663"]
    # Only spaces and tabs may surround a header's value (RFC 9110 5.5).
    + ["13\x0b", "13\xa0"],
)
def test_4_4_other_version_is_told_ours(version: str | None) -> None:
    with pytest.raises(HandshakeError, match="version 13") as caught:
        check_request(sample(HTTP_SEC_WEBSOCKET_VERSION=version))
    assert caught.value.status_code == 426
    assert caught.value.headers == {
        "Sec-WebSocket-Version": "13",
        # RFC 9110 15.5.22: "The server MUST send an Upgrade header field in a
        # 426 response"
        "Upgrade": "websocket",
        "Connection": "Upgrade",
    }


# Section 1.9 and item 8 of 4.2.1, subprotocols


@pytest.mark.parametrize(
    "header, expected",
    [
        (None, []),
        ("chat", ["chat"]),
        ("chat, superchat", ["chat", "superchat"]),
        ("superchat,chat", ["superchat", "chat"]),
        (" chat \t,\tsuperchat ", ["chat", "superchat"]),
        ("chat, Chat", ["chat", "Chat"]),
        ("v1.chat.example.com, !#$%&'*+-.^_`|~09AZaz", None),
    ],
)
def test_4_2_1_subprotocols_are_parsed(
    header: str | None, expected: list[str] | None
) -> None:
    environ = sample(HTTP_SEC_WEBSOCKET_PROTOCOL=header)
    if expected is None:
        assert header is not None
        expected = header.split(", ")
    assert parse_subprotocols(environ) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("", " ", ",", "chat,", ",chat", "chat,,superchat"),
        *("chat, chat", "chat,superchat,chat"),
        *("super chat", "chat;q=1", "chat/2", '"chat"', "a=b", "a:b", "(chat)", "a@b"),
        *("chat\n", "ch\x00at", "ch\x7fat", "caf\u00e9", "chat\x0b", "\xa0chat"),
    ],
)
def test_4_1_malformed_subprotocols_are_refused(header: str) -> None:
    for check in (parse_subprotocols, check_request):
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Protocol") as caught:
            check(sample(HTTP_SEC_WEBSOCKET_PROTOCOL=header))
        assert caught.value.status_code == 400


@pytest.mark.parametrize(
    "offered, supported, chosen",
    [
        ([], [], None),
        ([], ["chat"], None),
        (["chat"], [], None),
        (["chat"], ["superchat"], None),
        (["chat"], ["Chat"], None),
        (["chat", "superchat"], ["superchat", "chat"], "superchat"),
        (["chat", "superchat"], ["other", "chat"], "chat"),
    ],
)
def test_4_2_2_subprotocol_is_the_first_supported_of_the_offered(
    offered: list[str], supported: list[str], chosen: str | None
) -> None:
    assert choose_subprotocol(offered, supported) == chosen
    assert choose_subprotocol(iter(offered), iter(supported)) == chosen


# Section 9.1, negotiating extensions


@pytest.mark.parametrize(
    "header, expected",
    [
        (None, []),
        ("foo", [("foo", [])]),
        (" foo\t", [("foo", [])]),
        ("foo, bar", [("foo", []), ("bar", [])]),
        ("foo,foo", [("foo", []), ("foo", [])]),
        ("foo; a", [("foo", [("a", None)])]),
        ("foo;a;a", [("foo", [("a", None), ("a", None)])]),
        ("foo; a=1", [("foo", [("a", "1")])]),
        ("foo \t;\ta = 1", [("foo", [("a", "1")])]),
        ('foo; a="1"', [("foo", [("a", "1")])]),
        ('foo; a = "x-y" ; b', [("foo", [("a", "x-y"), ("b", None)])]),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, "
            "permessage-deflate; client_max_window_bits",
            [
                (
                    "permessage-deflate",
                    [
                        ("client_max_window_bits", None),
                        ("server_max_window_bits", "10"),
                    ],
                ),
                ("permessage-deflate", [("client_max_window_bits", None)]),
            ],
        ),
    ],
)
def test_9_1_extensions_are_parsed(
    header: str | None,
    expected: list[tuple[str, list[tuple[str, str | None]]]],
) -> None:
    environ = sample(HTTP_SEC_WEBSOCKET_EXTENSIONS=header)
    assert parse_extensions(environ) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("", " ", ",", "foo,", ",foo", "foo,,bar"),
        *(";", "; a", "foo;", "foo; ", "foo;;a", "foo; a;", "foo; ;a"),
        *("foo bar", "foo a=1", "foo=1", "foo; a b", "foo; a=", "foo; =1", "foo; a=="),
        *("foo; a=1 2", 'foo; a="', 'foo; a=""', 'foo; a="1', 'foo; a=1"'),
        # "the value after quoted-string unescaping MUST conform to the 'token'
        # ABNF"
        *('foo; a="1 2"', 'foo; a="1,2"', 'foo; a="1;2"', 'foo; a="\\"'),
        *("f/oo", '"foo"', "foo; a=(1)", "foo\n", "foo; a\x00", "caf\u00e9"),
        *("foo\x0b", "foo\xa0; a", "foo; a=1\x0b"),
    ],
)
def test_9_1_malformed_extensions_are_refused(header: str) -> None:
    for check in (parse_extensions, check_request):
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Extensions") as caught:
            check(sample(HTTP_SEC_WEBSOCKET_EXTENSIONS=header))
        assert caught.value.status_code == 400


# Section 10.2, origin considerations

EXAMPLE = ["https://example.com"]
SUBDOMAINS = ["https://*.example.com"]


def is_origin_allowed(
    origin: str | None,
    *,
    host: str = "example.com",
    is_secure: bool = False,
    allowed: list[str] | tuple[str, ...] | str | None = None,
) -> bool:
    try:
        check_origin(
            sample(HTTP_ORIGIN=origin), host=host, is_secure=is_secure, allowed=allowed
        )
    except HandshakeError as exc:
        assert exc.status_code == 403
        assert exc.headers == {}
        assert str(exc) == "This origin isn't allowed."
        return False
    return True


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("allowed", [None, "*", [], EXAMPLE, "https://other.example"])
def test_10_2_request_without_origin_passes(
    allowed: list[str] | str | None, is_secure: bool
) -> None:
    assert is_origin_allowed(None, allowed=allowed, is_secure=is_secure)


@pytest.mark.parametrize(
    "origin, host, is_secure, expected",
    [
        ("http://example.com", "example.com", False, True),
        ("https://example.com", "example.com", True, True),
        # TLS may end at a proxy that doesn't tell.
        ("https://example.com", "example.com", False, True),
        # A page of http on the host of https is foreign.
        ("http://example.com", "example.com", True, False),
        ("http://example.com:443", "example.com:443", True, False),
        # Case
        ("HTTP://EXAMPLE.COM", "example.com", False, True),
        ("http://example.com", "Example.Com", False, True),
        # Default ports
        ("http://example.com:80", "example.com", False, True),
        ("http://example.com", "example.com:80", False, True),
        ("https://example.com:443", "example.com", True, True),
        ("https://example.com", "example.com:443", True, True),
        ("http://example.com:443", "example.com", False, False),
        ("https://example.com:80", "example.com", True, False),
        ("http://example.com:0", "example.com", False, False),
        ("http://example.com", "example.com:0", False, False),
        # Other ports
        ("http://example.com:8000", "example.com:8000", False, True),
        ("http://example.com:8000", "example.com", False, False),
        ("http://example.com", "example.com:8000", False, False),
        ("http://example.com:8000", "example.com:8001", False, False),
        # Addresses
        ("http://127.0.0.1:8000", "127.0.0.1:8000", False, True),
        ("http://[::1]:8000", "[::1]:8000", False, True),
        ("http://[::1]", "[::1]", False, True),
        ("http://[::1]", "[::2]", False, False),
        ("https://[::1] :443", "[::1]", True, False),
        ("https://[::1]x", "[::1]", True, False),
        ("https://x[::1]", "[::1]", True, False),
        ("http://", "", False, False),
        ("http://a@b", "a@b", False, False),
        # Other hosts
        ("http://example.org", "example.com", False, False),
        ("http://www.example.com", "example.com", False, False),
        ("http://example.com", "www.example.com", False, False),
        ("http://example.com.evil.org", "example.com", False, False),
        ("http://evilexample.com", "example.com", False, False),
        ("http://example.com.", "example.com", False, False),
        # Own pages come over http and https, not from an app that calls itself
        # by the name of the host.
        ("ftp://example.com", "example.com", False, False),
        ("ionic://localhost", "localhost", False, False),
        ("chrome-extension://example.com", "example.com", False, False),
        # No origin at all
        ("null", "null", False, False),
        ("http://null", "null", False, True),
        # A host that is none
        ("http://example.com", "", False, False),
        ("http://example.com", "[", False, False),
        ("http://example.com", "example.com/path", False, False),
        ("http://example.com", "example.com:port", False, False),
    ],
)
def test_10_2_own_host_is_allowed_by_default(
    origin: str, host: str, is_secure: bool, expected: bool
) -> None:
    assert is_origin_allowed(origin, host=host, is_secure=is_secure) is expected


@pytest.mark.parametrize(
    "origin",
    [
        "",
        " ",
        "null",
        "example.com",
        "//example.com",
        "://example.com",
        "https:",
        "https:example.com",
        "https:/example.com",
        "https://",
        "https://:443",
        "https://*",
        "https:///example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://example.com?",
        "https://example.com?a=b",
        "https://example.com#",
        "https://example.com#fragment",
        "https://example.com:port",
        "https://example.com:-1",
        "https://example.com:65536",
        "https://example.com:443:443",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://evil.org@example.com",
        "https://@example.com",
        "https://example.com@evil.org",
        "https://example.com\\@evil.org",
        "https://example.com, https://example.com",
        "https://example.com https://example.com",
        " https://example.com",
        "https://example.com ",
        "\x00https://example.com",
        "https://exam\tple.com",
        "https://example.com\n",
        "ht\rtps://example.com",
        "https://[::1",
        "https://[example.com]",
        "https://example.com\u2100",
        "*",
    ],
)
def test_10_2_malformed_origin_is_refused(origin: str) -> None:
    assert not is_origin_allowed(origin, is_secure=True)
    assert not is_origin_allowed(origin, is_secure=False)
    assert not is_origin_allowed(origin, allowed=EXAMPLE)
    assert not is_origin_allowed(origin, allowed=SUBDOMAINS)


@pytest.mark.parametrize(
    "origin, allowed, expected",
    [
        # Any
        ("https://example.org", "*", True),
        ("https://example.org", ["*"], True),
        ("https://example.org", ["https://example.com", "*"], True),
        ("null", "*", True),
        ("", "*", True),
        ("nonsense", ["*"], True),
        # Exact
        ("https://example.com", EXAMPLE, True),
        ("https://example.com", tuple(EXAMPLE), True),
        ("https://example.com", "https://example.com", True),
        ("https://EXAMPLE.com", EXAMPLE, True),
        ("https://example.com", ["HTTPS://Example.COM"], True),
        ("https://example.com:443", EXAMPLE, True),
        ("https://example.com", ["https://example.com:443"], True),
        ("https://example.com", ["http://localhost:3000", *EXAMPLE], True),
        ("http://localhost:3000", ["http://localhost:3000", *EXAMPLE], True),
        ("ionic://localhost", ["ionic://localhost"], True),
        ("http://example.com", EXAMPLE, False),
        ("http://example.com:443", EXAMPLE, False),
        ("https://example.com:8443", EXAMPLE, False),
        ("https://example.com:0", EXAMPLE, False),
        ("https://www.example.com", EXAMPLE, False),
        ("https://example.org", EXAMPLE, False),
        ("ionic://localhost", ["http://localhost"], False),
        # None: the own host isn't among them unless it is named.
        ("https://example.com", [], False),
        ("http://example.com", ["https://example.org"], False),
        # Only when it is named
        ("null", EXAMPLE, False),
        ("null", ["null"], True),
        ("nonsense", EXAMPLE, False),
        # Subdomains, as in CSRF_TRUSTED_ORIGINS
        ("https://www.example.com", SUBDOMAINS, True),
        ("https://a.b.example.com", SUBDOMAINS, True),
        ("https://WWW.EXAMPLE.COM", SUBDOMAINS, True),
        ("https://www.example.com", ["HTTPS://*.EXAMPLE.COM"], True),
        ("https://www.example.com:443", SUBDOMAINS, True),
        ("https://example.com", SUBDOMAINS, True),
        ("https://www.example.com:8443", ["https://*.example.com:8443"], True),
        ("https://www.example.com", ["https://*.example.com:443"], True),
        ("http://www.example.com", SUBDOMAINS, False),
        ("http://www.example.com:443", SUBDOMAINS, False),
        ("https://www.example.com:8443", SUBDOMAINS, False),
        ("https://www.example.com", ["https://*.example.com:8443"], False),
        ("https://evilexample.com", SUBDOMAINS, False),
        ("https://example.com.evil.org", SUBDOMAINS, False),
        ("https://www.example.org", SUBDOMAINS, False),
        ("null", SUBDOMAINS, False),
        # Patterns that are none
        ("https://www.example.com", ["*.example.com"], False),
        ("https://www.example.com", ["www.example.com"], False),
        ("https://www.example.com", ["https://*."], False),
        ("https://www.example.com", ["https://*"], False),
        ("https://www.example.com", ["https://*.example.com/"], False),
        ("https://www.example.com", ["https://www.*.com"], False),
        ("https://www.example.com", [""], False),
    ],
)
def test_10_2_allowed_origins(
    origin: str, allowed: list[str] | tuple[str, ...] | str, expected: bool
) -> None:
    for is_secure in (False, True):
        assert (
            is_origin_allowed(origin, allowed=allowed, is_secure=is_secure) is expected
        )


# Section 4.2.2, the headers of the response


@pytest.mark.parametrize(
    "headers, expected",
    [
        (None, []),
        ({}, []),
        ([], []),
        ({"X-One": "1", "X-Two": ""}, [("X-One", "1"), ("X-Two", "")]),
        (
            [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
            [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
        ),
        (iter([("Server", "x y\tz")]), [("Server", "x y\tz")]),
        ({"X-Websocket": "caf\u00e9"}, [("X-Websocket", "caf\u00e9")]),
    ],
)
def test_4_2_2_headers_of_the_view_are_kept(
    headers: Any, expected: list[tuple[str, str]]
) -> None:
    assert check_response_headers(headers) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Content-Length", "Content-Type", "Keep-Alive", "Trailer"),
        *("Transfer-Encoding", "Upgrade", "upgrade", "CONNECTION"),
        *("Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "sec-websocket-x"),
        *("SEC-WEBSOCKET-PROTOCOL", "Sec-WebSocket-Version"),
    ],
)
def test_4_2_2_headers_of_the_handshake_are_refused(name: str) -> None:
    for headers in ({name: "x"}, [("X-Fine", "1"), (name, "x")]):
        with pytest.raises(ValueError, match=f"itself makes the {name} header"):
            check_response_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "X Y", "X:", "X: y\r\nSet-Cookie", "X\n", "\nX", "X\r", "X\x00"),
        *("X-Caf\u00e9", "X\u2028", "(X)", "X\x7f", " X", "X "),
    ],
)
def test_header_name_cannot_inject_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="is not a header name"):
        check_response_headers({name: "x"})


@pytest.mark.parametrize(
    "value",
    [
        *("x\r\nSet-Cookie: a=b", "x\r\n\r\n<html>", "x\n", "\nx", "x\r", "\r"),
        *("x\r\n y", "x\n\ty", "x\x00", "\x00"),
    ],
)
def test_header_value_cannot_inject_a_line(value: str) -> None:
    for headers in ({"X-Name": value}, [("X-Fine", "1"), ("X-Name", value)]):
        with pytest.raises(ValueError, match="value of the X-Name header"):
            check_response_headers(headers)


# Whatever a client sends

_TEXT = st.text(max_size=40)
_PIECES = st.lists(
    st.sampled_from(
        [
            *("websocket", "Upgrade", "HTTP/", "1.1", "13", "GET", "chat", "https"),
            *("http", "://", "example.com", "*", ".", ":", "443", "0", ";", ",", "="),
            *('"', "\\", " ", "\t", "\r\n", "\x00", "@", "/", "?", "#", "[", "]"),
            *("dGhlIHNhbXBsZSBub25jZQ", "==", "\xff", "\u212a", "\u2100", "\ud800"),
        ]
    ),
    max_size=12,
).map("".join)
_VALUES = _TEXT | _PIECES
_ENVIRONS = st.fixed_dictionaries(
    {},
    optional={
        name: _VALUES | st.just(SAMPLE.get(name, ""))
        for name in (
            *SAMPLE,
            "CONTENT_LENGTH",
            "HTTP_TRANSFER_ENCODING",
            "HTTP_SEC_WEBSOCKET_EXTENSIONS",
        )
    },
)


@EXAMPLES
@given(_ENVIRONS, st.booleans())
def test_any_request_is_accepted_or_refused(
    changes: dict[str, str], is_complete: bool
) -> None:
    """Whatever strings stand in the environ, nothing but HandshakeError is raised."""
    environ = {**SAMPLE, **changes} if is_complete else changes
    assert is_websocket_request(environ) in (True, False)
    for check in (check_request, accept_key, parse_subprotocols, parse_extensions):
        try:
            check(environ)
        except HandshakeError as exc:
            assert exc.status_code in (400, 426)


@EXAMPLES
@given(
    _VALUES,
    _VALUES,
    st.booleans(),
    st.none() | _VALUES | st.lists(_VALUES, max_size=3),
)
def test_any_origin_is_allowed_or_refused(
    origin: str, host: str, is_secure: bool, allowed: list[str] | str | None
) -> None:
    is_origin_allowed(origin, host=host, is_secure=is_secure, allowed=allowed)


@EXAMPLES
@given(st.lists(st.tuples(_VALUES | st.just("X-Name"), _VALUES), max_size=3))
def test_any_header_is_one_line_or_refused(headers: list[tuple[str, str]]) -> None:
    try:
        checked = check_response_headers(headers)
    except ValueError:
        return
    assert checked == headers
    for name, value in checked:
        assert not name.lower().startswith("sec-websocket")
        line = f"{name}: {value}".encode("utf-8", "surrogatepass")
        assert line.partition(b": ")[0].decode() == name
        assert not set(line) & set(b"\r\n\0")
