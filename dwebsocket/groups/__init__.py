"""One message to many connections, from anywhere: ``from dwebsocket import groups``.

::

    request.websocket.join("dams")      # in a WebSocket view; left by itself at the end
    groups.send("dams", "New dam")      # in any view, signal receiver, task, shell

All is synchronous, and works in and outside of a worker, with and without monkey
patching.  ``using`` is the alias of a backend in WEBSOCKET_GROUPS; users, single
websockets and all connections are those of "default".
Delivery is at most once, in each sender's order; ``docs/contract.rst`` is exact.

Errors: TypeError and ValueError for what isn't a name or a message, GroupError when the
backend's engine doesn't answer in time.
"""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from ..backlog import COALESCE, SLOW_CONSUMER_POLICIES
from ..exceptions import ConnectionClosed
from ..frames import Buffer
from .backends import get_backend
from .base import EVERYONE, GROUP, PROCESS, USER, Member
from .connections import MAX_LIMIT, Connection, Connections, Query, merge
from .envelope import Envelope, make_close, make_message
from .identity import make_id, split_id
from .local import Membership

if TYPE_CHECKING:
    from ..logins import Login
    from ..websocket import WebSocket

__all__ = [
    "Connection",
    "Connections",
    "Member",
    "broadcast",
    "close",
    "close_user",
    "close_websocket",
    "connections",
    "count",
    "join",
    "leave",
    "members",
    "send",
    "send_json",
    "send_to",
    "send_to_user",
]

DEFAULT = "default"

#: Bytes of a group's name.
_MAX_NAME = 200

# Joining


def join(
    name: str,
    websocket: WebSocket,
    *,
    data: Any = None,
    announce: bool = False,
    slow_consumer: str | None = None,
    using: str = DEFAULT,
) -> None:
    """Make a websocket a member of a group, until it leaves or its connection ends.

    ``data``, which must be JSON, is what ``members`` tells of it; with ``announce`` the
    others get ``{"type": "group.join", "content": {"group", "id", "user", "data"}}``
    and, at its end, a "group.leave".  ``slow_consumer`` is what happens to messages
    when more than WEBSOCKET_SEND_BUFFER_SIZE bytes wait for this member; None stands
    for the connection's own WEBSOCKET_SLOW_CONSUMER.

    What is sent to the group after this has returned will come, unless the engine is
    away: then it is heard again as soon as possible.  Joining again changes the
    options.  Raises ConnectionClosed.
    """
    channel = _group(name)
    if slow_consumer is None:
        slow_consumer = websocket.transport.slow_consumer
    elif slow_consumer not in SLOW_CONSUMER_POLICIES:
        known = ", ".join(SLOW_CONSUMER_POLICIES)
        raise ValueError(f"slow_consumer is one of {known}, not {slow_consumer!r}")
    text = None if data is None else json.dumps(data, cls=DjangoJSONEncoder)
    backend = get_backend(using)
    if websocket.is_closed():
        raise ConnectionClosed(websocket.close_code or 1006, websocket.close_reason)
    if slow_consumer == COALESCE:
        websocket.transport.keep_current()
    membership = websocket.memberships.get((using, channel))
    if membership is None:
        membership = Membership(
            backend, websocket, slow_consumer, text, announce=announce
        )
        backend.join(channel, membership)
    elif (text, announce) != (membership.data, membership.announce):
        membership.data, membership.announce = text, announce
        backend.note_join(name, membership)
    membership.policy = slow_consumer
    backend.wait_until_heard(channel)


def leave(name: str, websocket: WebSocket, *, using: str = DEFAULT) -> None:
    """End a membership.  Does nothing where there is none."""
    membership = websocket.memberships.get((using, _group(name)))
    if membership is not None:
        membership.backend.leave(GROUP + name, membership)


def members(name: str, *, using: str = DEFAULT) -> list[Member]:
    """Return who is in a group, in all processes, in no particular order."""
    _group(name)
    return get_backend(using).members(name)


def count(name: str, *, using: str = DEFAULT) -> int:
    """Return how many are in a group, in all processes."""
    _group(name)
    return get_backend(using).count(name)


# Sending


def send(
    name: str,
    message: str | Buffer,
    *,
    on_commit: bool | str = False,
    exclude: WebSocket | str | None = None,
    key: str | None = None,
    using: str = DEFAULT,
) -> None:
    """Send a message to all members of a group: text for a str, otherwise binary.

    With ``on_commit`` it is sent when the transaction of the default database, or of
    the one it names, commits, and not if it doesn't; an error is logged then, since it
    is too late to fail.  ``exclude`` is a websocket that doesn't get it, or its id.
    For members with the "coalesce" policy it replaces an earlier message of the group
    with the same ``key`` that still waits.  Up to 16 MiB.
    """
    envelope = make_message(message, exclude=_find_id(exclude), key=key)
    _publish(_group(name), envelope, using, on_commit)


def send_json(name: str, value: Any, **options: Any) -> None:
    """Send a value as JSON text; otherwise like ``send``.

    Dates, decimals, UUIDs and lazy strings become strings as in DjangoJSONEncoder.
    """
    send(name, _to_json(value), **options)


def broadcast(
    message: str | Buffer,
    *,
    on_commit: bool | str = False,
    exclude: WebSocket | str | None = None,
    key: str | None = None,
) -> None:
    """Send a message to all connections, in groups or not; options as of ``send``.

    What happens at those that are slow is their own WEBSOCKET_SLOW_CONSUMER.
    """
    envelope = make_message(message, exclude=_find_id(exclude), key=key)
    _publish(EVERYONE, envelope, DEFAULT, on_commit)


def send_to(
    websocket_id: str,
    message: str | Buffer,
    *,
    on_commit: bool | str = False,
    key: str | None = None,
) -> None:
    """Send a message to one websocket, by its ``id``, wherever it is connected.

    Nothing happens when it has gone.  ``key`` is as of ``send``.
    """
    envelope = make_message(message, target=websocket_id, key=key)
    _publish(_process(websocket_id), envelope, DEFAULT, on_commit)


def send_to_user(
    user: Any,
    message: str | Buffer,
    *,
    on_commit: bool | str = False,
    exclude: WebSocket | str | None = None,
    key: str | None = None,
) -> None:
    """Send a message to every connection of a user, or of a user's primary key.

    ``exclude`` and ``key`` are as of ``send``.
    """
    envelope = make_message(message, exclude=_find_id(exclude), key=key)
    _publish(_user(user), envelope, DEFAULT, on_commit)


# Listing


def connections(
    *,
    user: Any = None,
    path: str = "",
    address: str | None = None,
    group: str | None = None,
    after: Connection | None = None,
    limit: int = 100,
) -> Connections:
    """Return the open connections of all processes, ``limit`` (1000) at most.

    Those of a ``user``, or of a user's primary key; those whose path begins with
    ``path``; those from an ``address`` or network; the members of a ``group``.
    ``after`` is the last connection of the page before.  Each process looks at all that
    it has, in slices, and is waited for as long as the engine's timeout says.
    """
    if not 0 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit is a number from 0 to {MAX_LIMIT}, not {limit!r}")
    query = Query(
        user=None if user is None else _user(user)[len(USER) :],
        path=path,
        address=None if address is None else str(ip_network(address, strict=False)),
        group=None if group is None else _group(group)[len(GROUP) :],
        after=None if after is None else (after.opened_at.timestamp(), after.id),
        limit=limit,
    )
    answers, missing = get_backend(DEFAULT).ask(query.encode())
    found = merge(answers, limit)
    found.missing = missing
    return found


# Closing


def close(
    name: str,
    code: int | None = 1000,
    reason: str = "",
    *,
    on_commit: bool | str = False,
    using: str = DEFAULT,
) -> None:
    """Close the connections of all members of a group; see ``WebSocket.close``."""
    _publish(_group(name), make_close(code, reason), using, on_commit)


def close_user(
    user: Any,
    code: int | None = 1000,
    reason: str = "",
    *,
    on_commit: bool | str = False,
) -> None:
    """Close every connection of a user, or of a user's primary key."""
    _publish(_user(user), make_close(code, reason), DEFAULT, on_commit)


def close_websocket(
    websocket_id: str,
    code: int | None = 1000,
    reason: str = "",
    *,
    on_commit: bool | str = False,
) -> None:
    """Close one connection, by the ``id`` of its websocket."""
    envelope = make_close(code, reason, target=websocket_id)
    _publish(_process(websocket_id), envelope, DEFAULT, on_commit)


# For conversations


def prepare_connection() -> None:
    """Have this process hear what is for connections, before one is open."""
    get_backend(DEFAULT).prepare_connection()


def add_websocket(websocket: WebSocket, login: Login | None) -> None:
    """Let a new connection be found, by its user as long as the login holds."""
    if login is None:
        return
    backend = get_backend(DEFAULT)
    websocket.user_id = login.user_id
    if not websocket.is_closed():
        policy = websocket.transport.slow_consumer
        membership = Membership(backend, websocket, policy, login=login)
        backend.join_user(membership, login.user_id)


def remove_websocket(websocket: WebSocket) -> None:
    """End all memberships; the connection has ended.  Never waits."""
    for (_, channel), membership in list(websocket.memberships.items()):
        membership.backend.leave(channel, membership)


def make_reachable(websocket: WebSocket) -> str:
    """Return a new id, by which any process can send to the websocket."""
    get_backend(DEFAULT).make_reachable()
    return make_id(websocket)


def _publish(
    channel: str, envelope: Envelope, using: str, on_commit: bool | str
) -> None:
    backend = get_backend(using)

    # Not a partial: Django before 6.1 can't log the error of one.
    def publish() -> None:
        backend.publish(channel, envelope)

    if on_commit is False:
        publish()
    else:
        database = None if on_commit is True else on_commit
        transaction.on_commit(publish, using=database, robust=True)


def _to_json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, separators=(",", ":"))


def _group(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a group's name is a str, not {type(name).__name__}")
    # Lone surrogates are refused as well.
    if len(name) > _MAX_NAME or len(name.encode()) > _MAX_NAME:
        raise ValueError(f"a group's name is at most {_MAX_NAME} bytes of UTF-8")
    return GROUP + name


def _user(user: Any) -> str:
    key = getattr(user, "pk", user)
    if key is None:
        raise ValueError(f"{user!r} has no primary key")
    return f"{USER}{key}"


def _find_id(websocket: WebSocket | str | None) -> str | None:
    if websocket is None:
        return None
    websocket_id: Any = getattr(websocket, "id", websocket)
    split_id(websocket_id)
    return str(websocket_id)


def _process(websocket_id: str) -> str:
    return PROCESS + split_id(websocket_id)[0]
