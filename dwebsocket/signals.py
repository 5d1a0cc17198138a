"""Signals; those of a connection's life run in its greenlet and may block.

They have ``sender=WebSocket``, ``websocket`` and ``request``, which is None when a
handler hasn't kept it.  Those of typed messages have ``sender=WebSocket``,
``websocket`` and ``message``, a TypedMessage of a type that is known.  ``group_gap``
is of the process.
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

#: The 101 response was sent.
websocket_opened = Signal(use_caching=True)

#: The view takes ``message`` (str or bytes).  Costs nothing for connections that were
#: opened when nobody listened.
websocket_message = Signal(use_caching=True)

#: View and connection have ended; with ``code``, ``reason`` and ``duration`` (seconds).
websocket_closed = Signal(use_caching=True)

#: This process may have missed messages of all its groups for ``duration`` seconds;
#: sent with the class of the backend and its ``alias``.  Pages that must not miss any
#: should be told to load anew.
group_gap = Signal(use_caching=True)

#: A typed message has come; its content isn't validated yet.
typed_message_received = Signal(use_caching=True)

#: It was handled; with ``duration`` (seconds) and ``error``, the code of the error or
#: None.
typed_message_handled = Signal(use_caching=True)
