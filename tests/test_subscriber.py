"""The supervised connection of ``dwebsocket.groups.subscriber``: its fairness.

That it never stays deaf is tested with real servers: ``test_groups_failures``.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
import redis

from dwebsocket.groups.engines import Engine
from dwebsocket.groups.subscriber import Subscriber

from .servers import TIMEOUT

#: More than some turns of a subscriber, however fast the machine is.
MESSAGES = 200_000


class FullConnection:
    """Takes the place of redis-py's: there is always something to read, to the end."""

    def __init__(self) -> None:
        self.left = MESSAGES
        self.responses: deque[list[Any]] = deque()

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def pack_commands(self, commands: list[tuple[str, bytes]]) -> Any:
        return commands

    def send_packed_command(self, commands: Any, check_health: bool) -> None:
        for command, channel in commands:
            self.responses.append([command.lower().encode(), channel, 1])

    def can_read(self, timeout: float) -> bool:
        if not self.responses and timeout == 0.1:
            # Before all that is subscribed to is confirmed there are no messages.
            gevent.sleep(0)
            return False
        return True

    def read_response(self, disable_decoding: bool) -> list[Any]:
        if self.responses:
            return self.responses.popleft()
        if not self.left:
            raise redis.ConnectionError("the end")
        self.left -= 1
        return [b"message", b"channel", b"data"]


class FullEngine(Engine):
    def __init__(self, connection: FullConnection) -> None:
        super().__init__(lambda: None)
        self._connection = connection

    def make_connection(self, place: str) -> Any:
        return self._connection

    def publish(self, channel: bytes, data: bytes) -> int:
        self._connection.responses.append([b"message", channel, data])
        return 1


def test_who_hears_much_lets_others_run() -> None:
    connection = FullConnection()
    received = turns = 0

    def receive(channel: bytes, data: bytes) -> None:
        nonlocal received
        received += 1

    subscriber = Subscriber(
        FullEngine(connection),
        "",
        b"probe",
        receive=receive,
        on_gap=lambda seconds: None,
        on_failure=lambda: None,
    )
    subscriber.subscribe(b"channel")
    with gevent.Timeout(TIMEOUT):
        while received < MESSAGES:
            # The least time is a turn of the loop.
            gevent.sleep(0.000001)
            turns += bool(0 < received < MESSAGES)
    subscriber.close()
    gevent.sleep(0)
    assert turns >= 5
