"""The address of a client, also behind proxies, as far as it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.http import HttpRequest

from .conf import settings

__all__ = ["find_client_address", "find_client_network"]


def find_client_address(request: HttpRequest) -> str:
    """Return the client's IP address; "" if the server doesn't tell.

    ``X-Forwarded-For`` is believed as far as it was written by the proxies that
    WEBSOCKET_TRUSTED_PROXIES names: from its end on, each of these tells who has
    talked to it; the first address that isn't one of them is the client's.  What is
    before that anybody may have written.
    """
    trusted = tuple(settings.trusted_proxies)
    address: str = request.META.get("REMOTE_ADDR", "")
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while hops and _is_trusted(address, trusted):
        hop = hops.pop().strip()
        if _parse(hop) is None:
            break
        address = hop
    ip = _parse(address)
    return address if ip is None else str(ip)


def find_client_network(request: HttpRequest) -> str:
    """Return what a client can't change at will: its address or, of IPv6, the /64."""
    address = find_client_address(request)
    if isinstance(_parse(address), IPv6Address):
        return str(ip_network((address.partition("%")[0], 64), strict=False))
    return address


@lru_cache(maxsize=1024)
def _is_trusted(address: str, trusted: Sequence[str]) -> bool:
    if not address:
        # Servers name no address for those who come by a Unix domain socket.
        return "unix" in trusted
    ip = _parse(address)
    return ip is not None and any(
        ip in ip_network(name) for name in trusted if name != "unix"
    )


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    # What IPv4 clients have on a socket that is open for both.
    return getattr(ip, "ipv4_mapped", None) or ip
