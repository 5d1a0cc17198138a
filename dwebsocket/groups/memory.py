"""The backend for one process, with nothing to install."""

from __future__ import annotations

import logging

from ..registry import registry
from .base import GROUP, GroupBackend, Member, make_announcement, to_member
from .envelope import CONTROL, Envelope
from .local import Membership

__all__ = ["MemoryBackend"]

logger = logging.getLogger("dwebsocket")


class MemoryBackend(GroupBackend):
    """Groups of one process: for development, tests and sites with one worker."""

    _has_warned = False

    def publish(self, channel: str, envelope: Envelope) -> None:
        if (
            not self._has_warned
            and registry.workers != 1
            and envelope.opcode != CONTROL
        ):
            self._warn()
        self.receive(channel, envelope)

    def members(self, name: str) -> list[Member]:
        return [to_member(m) for m in self.local.get(GROUP + name)]

    def count(self, name: str) -> int:
        return len(self.local.get(GROUP + name))

    def ask(self, question: bytes) -> tuple[list[bytes], int]:
        if not self._has_warned and registry.workers != 1:
            self._warn()
        return super().ask(question)

    def note_join(self, name: str, membership: Membership) -> None:
        self._announce("join", name, membership)

    def note_leave(self, name: str, membership: Membership) -> None:
        self._announce("leave", name, membership)

    def _warn(self) -> None:
        """Say it once when a message can't reach all whom it is for."""
        if registry.workers > 1:
            reached = f"one of {registry.workers} workers"
        elif registry.opened:
            return  # a server that doesn't tell how many workers it has
        else:
            reached = "nobody: this process has no WebSocket connections"
        self._has_warned = True
        logger.warning(
            "What was sent to groups reached %s. MemoryBackend is for one process; "
            "use dwebsocket.groups.redis.RedisBackend in WEBSOCKET_GROUPS.",
            reached,
        )

    def _announce(self, event: str, name: str, membership: Membership) -> None:
        if membership.announce:
            announcement = make_announcement(event, name, to_member(membership))
            self.publish(GROUP + name, announcement)
