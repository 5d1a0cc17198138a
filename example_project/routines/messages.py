"""The messages of routines, which come over the one endpoint of the site.

Nobody is told to start now, which would come late: all are told where the routine was
at which time of the server's clock, and each page knows how far its own is off.
"""

from __future__ import annotations

import time
from typing import Any

from django.forms import model_to_dict

from dwebsocket import groups
from dwebsocket.messages import TypedMessage, encode, register

from .forms import PlaybackForm, RoutineForm
from .models import Playback


@register("clock")
def clock(message: TypedMessage) -> float:
    return time.time()


@register("follow", form=RoutineForm)
def follow(message: TypedMessage) -> dict[str, Any]:
    routine = message.content["routine"]
    message.websocket.join(f"routine.{routine}")
    playback, _ = Playback.objects.get_or_create(routine=routine)
    return model_to_dict(playback)


@register("set", form=PlaybackForm)
def set_playback(message: TypedMessage) -> None:
    """Play, pause or seek: whoever asks last decides."""
    content = {**message.content, "time": time.time()}
    routine = content["routine"]
    older = Playback.objects.filter(routine=routine, time__lt=content["time"])
    older.update(**content)
    groups.send(f"routine.{routine}", encode("routines.playback", content))
