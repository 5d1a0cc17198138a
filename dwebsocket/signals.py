"""Signals of a connection's life; receivers run in its greenlet and may block.

Each is sent with ``sender=WebSocket``, ``websocket`` and ``request``, which is None
when a handler hasn't kept it:

* ``websocket_opened``: the 101 response was sent
* ``websocket_message``: the view takes ``message`` (str or bytes).  Costs nothing
  for connections that were opened when nobody listened
* ``websocket_closed``: view and connection have ended; with ``code``, ``reason``
  and ``duration`` (seconds)

Those of typed messages have ``sender=WebSocket``, ``websocket`` and ``message``, a
TypedMessage of a type that is known:

* ``typed_message_received``: before its content is validated
* ``typed_message_handled``: with ``duration`` (seconds) and ``error``, the code of the
  error or None

``group_gap`` is sent with the class of a backend for groups, its ``alias`` and
``duration``: so many seconds long this process may have missed messages of all its
groups.  Pages that must not miss any should be told to load anew.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = [
    "group_gap",
    "typed_message_handled",
    "typed_message_received",
    "websocket_closed",
    "websocket_message",
    "websocket_opened",
]

websocket_opened = Signal(use_caching=True)
websocket_message = Signal(use_caching=True)
websocket_closed = Signal(use_caching=True)
group_gap = Signal(use_caching=True)
typed_message_received = Signal(use_caching=True)
typed_message_handled = Signal(use_caching=True)
