"""The client's address, as far as proxies can be believed."""

from __future__ import annotations

import pytest
from django.test import RequestFactory, override_settings

from dwebsocket.address import find_client_address, find_client_network

TRUSTED = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]


def find(peer: str, forwarded: str | None = None, *trusted: str) -> str:
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR=peer, **headers)
    with override_settings(WEBSOCKET_TRUSTED_PROXIES=trusted or TRUSTED):
        return find_client_address(request)


@pytest.mark.parametrize(
    "peer, forwarded, wanted",
    [
        # Who isn't a proxy can write what he likes.
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1, 10.0.0.1", "192.0.2.1"),
        # One proxy, two, and what the client has made up before.
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("127.0.0.1", "198.51.100.1,192.0.2.1 ,10.1.2.3", "192.0.2.1"),
        ("127.0.0.1", "10.9.9.9, 192.0.2.1", "192.0.2.1"),
        # A client in the network of the proxies.
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
        # Nothing, or nonsense: the last who is known.
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.1, unknown, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "192.0.2.1:5000", "127.0.0.1"),
        # IPv6, and IPv4 on a socket of both.
        ("fd00::1", "2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "::ffff:192.0.2.1, ::ffff:10.1.2.3", "192.0.2.1"),
        ("::ffff:192.0.2.1", "198.51.100.1", "192.0.2.1"),
    ],
)
def test_address(peer: str, forwarded: str | None, wanted: str) -> None:
    assert find(peer, forwarded) == wanted


def test_nobody_is_trusted_by_default() -> None:
    request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR="192.0.2.1")
    with override_settings(WEBSOCKET_TRUSTED_PROXIES=()):
        assert find_client_address(request) == "127.0.0.1"


def test_unix_domain_socket() -> None:
    assert find("", "192.0.2.1") == ""
    assert find("", "192.0.2.1", "unix") == "192.0.2.1"
    assert find("", "192.0.2.1, 10.0.0.1", "unix", "10.0.0.0/8") == "192.0.2.1"


@pytest.mark.parametrize(
    "peer, wanted",
    [
        ("192.0.2.1", "192.0.2.1"),
        # A client has all addresses of its network.
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_network(peer: str, wanted: str) -> None:
    assert find_client_network(RequestFactory().get("/", REMOTE_ADDR=peer)) == wanted
