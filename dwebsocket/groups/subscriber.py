"""A connection to Redis that hears channels, supervised: never deaf unnoticed.

* One greenlet reads, one writes: whoever subscribes never waits for the network.
* Every ``_PROBE_INTERVAL`` two probes go out: a PING on the connection, and a message
  published the way that all others are, by a connection of the publishers.  When one
  isn't heard in time, the connection is given up, however alive it looks: it may be
  one to a server that nobody publishes at any more.
* A connection that is given up is made again, after a delay that grows up to
  ``_MAX_DELAY`` and varies.  Everything is subscribed again, each confirmation
  awaited, and the probe heard, before the gap counts as over and is reported.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from .engines import ERRORS, Engine

__all__ = ["Subscriber"]

logger = logging.getLogger("dwebsocket")

#: Seconds between two probes, and until one has to be heard.
_PROBE_INTERVAL = 2
_PROBE_TIMEOUT = 3
#: Seconds between two attempts to connect.
_MIN_DELAY = 0.1
_MAX_DELAY = 2
#: Seconds for which messages are taken before the hub does something else.
_TURN = 0.005
#: Commands that are sent at once.
_CHUNK = 500


class _Deaf(Exception):
    """What has to be heard wasn't."""


class Subscriber:
    """Hears channels at one place of an engine.

    Calls ``receive(channel, data)`` with what comes, and that may wait;
    ``on_gap(seconds)`` after a time in which messages may have been missed;
    ``on_failure()`` before a connection is made anew.
    """

    def __init__(
        self,
        engine: Engine,
        place: str,
        probe_name: bytes,
        *,
        receive: Callable[[bytes, bytes], object],
        on_gap: Callable[[float], object],
        on_failure: Callable[[], object],
    ) -> None:
        self._engine = engine
        self._place = place
        self._probe_name = probe_name
        self._receive = receive
        self._on_gap = on_gap
        self._on_failure = on_failure
        self.channels: set[bytes] = set()
        # Subscriptions that were asked for and aren't confirmed.
        self._unconfirmed: Counter[bytes] = Counter()
        self._heard: dict[bytes, Event] = {}
        self._commands: list[tuple[str, bytes]] = []
        self._has_commands = Event()
        self._connection: Any = None
        self._failure: BaseException | None = None
        self._probe_channel = b""
        # When a probe went out that hasn't been heard; None while there is none.
        self._pinged_at: float | None = None
        self._probed_at: float | None = None
        self._probe_number = self._probe_heard = 0
        self._heard_at = time.monotonic()
        #: Since when messages may be missed; None while all is well.
        self.deaf_since: float | None = None
        self._greenlets = [
            gevent.spawn(run) for run in (self._read, self._write, self._probe)
        ]

    # From any greenlet

    def subscribe(self, channel: bytes) -> None:
        """Hear a channel from soon on."""
        self.channels.add(channel)
        self._unconfirmed[channel] += 1
        self._command("SUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Don't hear a channel any longer."""
        self.channels.discard(channel)
        self._heard.pop(channel, None)
        self._command("UNSUBSCRIBE", channel)

    def is_heard(self, channel: bytes) -> bool:
        """Tell whether what is published to a channel comes in."""
        return self._connection is not None and not self._unconfirmed[channel]

    def wait(self, channel: bytes, timeout: float) -> bool:
        """Wait until a channel is heard, ``timeout`` seconds at most.

        Returns whether it is, or isn't one of this subscriber's.
        """
        if channel not in self.channels or self.is_heard(channel):
            return True
        return self._heard.setdefault(channel, Event()).wait(timeout)

    def close(self) -> None:
        """Hear nothing any longer."""
        gevent.killall(self._greenlets, block=False)

    def _command(self, command: str, channel: bytes) -> None:
        self._commands.append((self._engine.prefix + command, channel))
        self._has_commands.set()

    # The greenlet that reads

    def _read(self) -> None:
        delay = _MIN_DELAY
        is_retry = False
        while True:
            try:
                if is_retry:
                    self._on_failure()
                is_retry = True
                self._listen()
            except Exception as exc:
                if not isinstance(exc, (*ERRORS, _Deaf)):
                    logger.exception("groups: internal error; connecting anew")
                if self.deaf_since is None:
                    self.deaf_since = self._heard_at
                    delay = _MIN_DELAY
                    logger.warning("groups: Redis isn't heard: %s", exc)
            gevent.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, _MAX_DELAY)

    def _listen(self) -> None:
        connection = self._engine.make_connection(self._place)
        try:
            connection.connect()
            self._probe_channel = self._engine.make_probe_channel(
                self._place, self._probe_name
            )
            self._subscribe_all(connection)
            if self.deaf_since is not None:
                gap = time.monotonic() - self.deaf_since
                self.deaf_since = None
                self._on_gap(gap)
            turn_ends_at = 0.0
            while True:
                self._handle(self._read_one(connection, 1))
                self._check_probes(connection)
                # Reading what is there already doesn't let others run, nor does
                # delivering it.
                if time.monotonic() > turn_ends_at:
                    # Not 0: the hub wouldn't look at sockets.
                    gevent.sleep(0.000001)
                    turn_ends_at = time.monotonic() + _TURN
        finally:
            self._connection = None
            connection.disconnect()

    def _subscribe_all(self, connection: Any) -> None:
        """Subscribe to all channels and wait for the confirmations and a probe."""
        self._failure = None
        self._commands.clear()
        channels = [self._probe_channel, *self.channels]
        self._unconfirmed = Counter(channels)
        self._pinged_at = self._probed_at = None
        self._connection = connection
        for channel in channels:
            self._command("SUBSCRIBE", channel)
        first_probe = self._probe_number + 1
        deadline = time.monotonic() + _PROBE_TIMEOUT
        while self._probe_heard < first_probe:
            if self._probe_number < first_probe and not self._unconfirmed:
                gevent.spawn(self._publish_probe)
                gevent.sleep(0)
            response = self._read_one(connection, 0.1)
            if response is not None:
                # As long as something comes, it is just much.
                deadline = time.monotonic() + _PROBE_TIMEOUT
                self._handle(response)
            elif time.monotonic() > deadline:
                raise _Deaf("subscriptions weren't confirmed in time")

    def _read_one(self, connection: Any, timeout: float) -> Any:
        if self._failure is not None:
            raise self._failure
        if not connection.can_read(timeout):
            return None
        return connection.read_response(disable_decoding=True)

    def _handle(self, response: Any) -> None:
        if response is None:
            return
        self._heard_at = time.monotonic()
        kind, channel = response[0], response[1]
        if kind in (b"message", b"smessage"):
            if channel == self._probe_channel:
                self._probe_heard = int(response[2])
                self._probed_at = None
            elif channel in self.channels:
                self._receive(channel, response[2])
        elif kind in (b"subscribe", b"ssubscribe"):
            self._confirm(channel)
        elif kind == b"pong":
            self._pinged_at = None
        elif kind == b"sunsubscribe" and channel in self.channels:
            if not self._unconfirmed[channel]:
                # Redis sends it when the channel's slot moves to another node.
                raise _Deaf("channels have moved to another node")

    def _confirm(self, channel: bytes) -> None:
        if self._unconfirmed[channel] > 1:
            self._unconfirmed[channel] -= 1
            return
        del self._unconfirmed[channel]
        heard = self._heard.pop(channel, None)
        if heard is not None:
            heard.set()

    def _check_probes(self, connection: Any) -> None:
        sent = [at for at in (self._pinged_at, self._probed_at) if at is not None]
        if sent and time.monotonic() - min(sent) > _PROBE_TIMEOUT:
            # After a stall of ours the answer may be waiting.
            if not connection.can_read(0):
                raise _Deaf(f"a probe wasn't heard for {_PROBE_TIMEOUT} s")

    # The greenlet that writes

    def _write(self) -> None:
        while True:
            self._has_commands.wait()
            self._has_commands.clear()
            connection = self._connection
            if connection is None:
                # All will be subscribed when there is one.
                self._commands.clear()
                continue
            commands, self._commands = self._commands, []
            try:
                for start in range(0, len(commands), _CHUNK):
                    # One channel for each: in a Cluster, those of a command have to be
                    # in the same slot.
                    packed = connection.pack_commands(commands[start : start + _CHUNK])
                    connection.send_packed_command(packed, check_health=False)
            except ERRORS as exc:
                if connection is self._connection:
                    self._failure = exc

    # The greenlet that probes

    def _probe(self) -> None:
        while True:
            gevent.sleep(_PROBE_INTERVAL * random.uniform(0.8, 1.2))
            if self._connection is None or self.deaf_since is not None:
                continue
            if self._pinged_at is None:
                self._pinged_at = time.monotonic()
                self._commands.append(("PING", b""))
                self._has_commands.set()
            if self._probed_at is None:
                self._publish_probe()

    def _publish_probe(self) -> None:
        self._probe_number += 1
        number = self._probe_number
        try:
            self._engine.publish(self._probe_channel, b"%d" % number)
        except ERRORS as exc:
            # Publishers are told of it by their own errors; PING tells of the rest.
            logger.debug("groups: a probe couldn't be published: %s", exc)
            return
        # It may have been heard before the answer to the command was.
        if self._probe_heard < number and self._probed_at is None:
            self._probed_at = time.monotonic()
