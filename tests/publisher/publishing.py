"""Many messages to many groups, from a view, a command and a task of Celery.

A message is ``<publisher> <number> <group>``; which number goes to which group can be
computed, so that a receiver knows what it must have got.
"""

from __future__ import annotations

import zlib

from dwebsocket import groups

__all__ = ["find_group", "publish_many"]


def find_group(publisher: str, number: int, group_count: int) -> int:
    """Return the group to which a publisher's message of this number goes."""
    return zlib.crc32(f"{publisher} {number}".encode()) % group_count


def publish_many(
    publisher: str,
    start: int,
    stop: int,
    group_count: int,
    prefix: str,
    size: int = 0,
) -> None:
    """Send messages number ``start`` to ``stop`` - 1 to groups ``<prefix><group>``.

    Spaces make them at least ``size`` bytes long.
    """
    for number in range(start, stop):
        group = find_group(publisher, number, group_count)
        message = f"{publisher} {number} {group}".ljust(size)
        groups.send(f"{prefix}{group}", message)
