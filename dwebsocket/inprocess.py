"""A server's part in a test: the view runs in a greenlet of the test's process."""

from __future__ import annotations

import gc
import http.client
import io
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import gevent
from django.http import HttpResponse
from django.utils.datastructures import CaseInsensitiveMapping
from gevent import Timeout
from gevent.event import Event
from gevent.socket import socket as Socket
from gevent.socket import socketpair
from greenlet import greenlet

from . import databases
from .conversation import Conversation
from .gateway import Handover, take_socket
from .registry import ServerScope

__all__ = ["InProcess", "TimedOut", "ViewScope", "environment"]


class InProcess(Handover):
    """Hands the connection over to a test; nothing has to be patched."""

    is_test = True

    def open(self, response: HttpResponse) -> tuple[Mapping[str, str], Socket]:
        """Send the 101; return its headers but the cookies, and the client's socket."""
        iter(response)
        switch = self.switch
        assert switch is not None
        _, _, head = switch.head().partition(b"\r\n")
        client, server = socketpair()
        switch.start(take_socket(server), b"", owns_socket=True)
        headers = http.client.parse_headers(io.BytesIO(head))
        del headers["Set-Cookie"]  # many of one name; the test's client has them
        return CaseInsensitiveMapping(headers.items()), client


class TimedOut(AssertionError):
    """What a test waited for didn't happen in time; says what the view does."""


class ViewScope(ServerScope):
    """One view and its connection, which run when the test waits.

    ``timeout`` is in seconds; ``changed`` is to be set when something has come.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.changed = Event()

    def leave(self) -> None:
        super().leave()
        self.changed.set()

    def settle(self) -> None:
        """Let everything run that can at once; an endless loop, not for ever."""
        with Timeout(self.timeout, False):  # type: ignore[arg-type]
            gevent.idle()

    def is_reached(
        self, condition: Callable[[], object], timeout: float | None = None
    ) -> bool:
        """Wait for a condition; return whether it holds."""
        if not condition():
            self.settle()
        timeout = self.timeout if timeout is None else timeout
        with Timeout(timeout, False):  # type: ignore[arg-type]
            while not condition():
                self.changed.clear()
                self.changed.wait()
        if not condition():
            # The time may have passed while the view computed its answer.
            self.settle()
        return bool(condition())

    def wait_until(
        self,
        condition: Callable[[], object],
        failure: str,
        timeout: float | None = None,
    ) -> None:
        """Wait for a condition; raise TimedOut if it doesn't hold in time."""
        if not self.is_reached(condition, timeout):
            raise self._timed_out(failure, timeout)

    @contextmanager
    def limit(self, failure: str) -> Iterator[None]:
        """Raise TimedOut if the block takes too long."""
        timer = Timeout.start_new(self.timeout)
        try:
            yield
        except Timeout as exc:
            if exc is not timer:
                raise
            raise self._timed_out(failure) from None
        finally:
            timer.close()

    def end(self) -> None:
        """Let the view end, which has lost its connection; else kill it."""
        if self.open:
            self.settle()
            for view in self._find_views():
                gevent.kill(view)
            self.settle()

    def _timed_out(self, failure: str, timeout: float | None = None) -> TimedOut:
        seconds = self.timeout if timeout is None else timeout
        return TimedOut(f"{failure} in {seconds:g} s\n{self._describe()}")

    def _describe(self) -> str:
        """Say what the view has done and where it is suspended."""
        text = "The view"
        transport: Any
        for transport in self:
            taken = transport.messages_in - transport.count_messages()
            text += f" has taken {taken} of {transport.messages_in} messages,"
            text += f" sent {transport.messages_out} and"
        stacks = "".join(map(_format_stack, self._find_views()))
        return f"{text} is suspended in:\n{stacks}".rstrip()

    def _find_views(self) -> list[greenlet]:
        # The test alone needs to know, so nothing else keeps them.
        return [
            thing
            for thing in gc.get_objects()
            # Not isinstance, which would evaluate Django's lazy objects.
            if issubclass(type(thing), greenlet)
            and any(
                frame.f_code is _RUN_VIEW and frame.f_locals["self"]._scope is self
                for frame in _find_frames(thing)
            )
        ]


class _Environment:
    """What is different in this process while tests have connections."""

    def __init__(self) -> None:
        self._count = 0
        self._stack = ExitStack()

    def enter(self) -> None:
        if not self._count:
            self._stack.enter_context(databases.share())
            # In production it is gevent's, and lets others run.
            if getattr(time.sleep, "__self__", None) is time:
                self._stack.enter_context(mock.patch("time.sleep", gevent.sleep))
        self._count += 1

    def leave(self) -> None:
        self._count -= 1
        if not self._count:
            self._stack.close()


environment = _Environment()

_RUN_VIEW = Conversation._run_view.__code__
#: Of files that say nothing about the view.
_DIRECTORIES = tuple(
    f"{Path(str(module.__file__)).parent}{os.sep}" for module in (databases, gevent)
)


def _find_frames(suspended: greenlet) -> list[FrameType]:
    """Return its frames, the outermost first."""
    frames = []
    frame = suspended.gr_frame
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _format_stack(view: greenlet) -> str:
    stack = traceback.StackSummary.extract(
        (frame, frame.f_lineno)
        for frame in _find_frames(view)
        if not frame.f_code.co_filename.startswith(_DIRECTORIES)
    )
    return "".join(stack.format())
