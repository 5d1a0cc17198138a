"""What the noise monitor shows: a level in dB(A), ten times a second.

With Redis `manage.py publish_noise` publishes, in a process of its own. MemoryBackend
doesn't reach other processes: there a server publishes to its own pages, as long as it
has any.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator

import gevent

from dwebsocket import GroupError, groups
from dwebsocket.groups.backends import get_backend
from dwebsocket.groups.memory import MemoryBackend

logger = logging.getLogger(__name__)

GROUP = "noise"
INTERVAL = 0.1  # seconds

_publisher: gevent.Greenlet | None = None


def make_levels() -> Iterator[float]:
    """Yield levels as of a street: a hum, and now and then something that passes."""
    hum, passing = 50.0, 0.0
    while True:
        if random.random() < 0.03:
            passing = max(passing, random.uniform(10, 50))
        passing *= 0.95
        hum += (48 - hum) * 0.05 + random.gauss(0, 1)
        yield round(min(max(hum + passing, 30), 110), 1)


def publish(is_wanted: Callable[[], object] = lambda: True) -> None:
    """Publish levels as long as `is_wanted()`."""
    for number, level in enumerate(make_levels()):
        if not is_wanted():
            return
        value = {"number": number, "level": level}
        try:
            # With a key a newer message may replace an older one.
            groups.send_json(GROUP, value, key="level")
        except GroupError as exc:
            logger.warning("A noise level is lost: %s", exc)
            time.sleep(1)
        time.sleep(INTERVAL)


def needs_own_publisher() -> bool:
    """Tell whether each process has to publish to its own pages."""
    return isinstance(get_backend("default"), MemoryBackend)


def ensure_publisher() -> None:
    """Publish until the last page of this process is gone, if it has to."""
    global _publisher
    if needs_own_publisher() and (_publisher is None or _publisher.ready()):
        _publisher = gevent.spawn(_publish_to_own_pages)


def _publish_to_own_pages() -> None:
    logger.info("Publishing noise levels: the first page is open")
    publish(is_wanted=lambda: groups.count(GROUP))
    logger.info("No noise levels any more: the last page is closed")
