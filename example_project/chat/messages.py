"""The chat's messages, which come over the one endpoint of the site."""

from __future__ import annotations

from typing import Any

from dwebsocket import groups
from dwebsocket.messages import MessageError, TypedMessage, encode, register

from .forms import LineForm, RoomForm
from .models import Line

HISTORY = 50  # lines


@register("enter", form=RoomForm)
def enter(message: TypedMessage) -> dict[str, Any]:
    view, websocket, room = message.view, message.websocket, message.content["room"]
    if hasattr(view, "room"):
        websocket.leave(f"chat.{view.room}")
    view.room = room
    # First join, then look: so nothing is missed that is said in between.
    websocket.join(f"chat.{room}")
    # All who chat are told who enters which room, and who leaves.
    websocket.join("chat", data={**view.person, "room": room}, announce=True)
    lines = Line.objects.filter(room=room).order_by("-pk")[:HISTORY]
    return {
        "members": [member._asdict() for member in groups.members("chat")],
        "lines": [line.describe() for line in reversed(lines)],
    }


@register("say", form=LineForm)
def say(message: TypedMessage) -> None:
    view, room = message.view, message.content["room"]
    if room != getattr(view, "room", None):
        raise MessageError("chat.not_there", "Enter the room first.")
    line = Line.objects.create(author=view.person["name"], **message.content)
    groups.send(f"chat.{room}", encode("chat.line", line.describe()))
