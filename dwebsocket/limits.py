"""What one connection may use."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Limits"]


class Limits(NamedTuple):
    """What one connection may use.

    ``max_message_size``, ``send_buffer_size``: bytes or None; ``max_queue``:
    messages or None; ``slow_consumer``: of ``backlog``; the others: seconds or None.
    """

    max_message_size: int | None
    max_queue: int | None
    send_buffer_size: int | None
    close_timeout: float | None
    ping_interval: float | None = None
    ping_timeout: float | None = None
    slow_consumer: str = "disconnect"
