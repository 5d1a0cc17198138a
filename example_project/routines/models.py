"""Where each routine is."""

from __future__ import annotations

import time

from django.db import models

from .steps import measure


class Playback(models.Model):
    """A routine was at a position at a time, and has gone on since if it plays.

    Both are in seconds; the time is the server's, since 1970.
    """

    routine = models.CharField(max_length=20, unique=True)
    is_playing = models.BooleanField(default=False)
    position = models.FloatField(default=0)
    time = models.FloatField(default=time.time)

    def is_going_on(self) -> bool:
        """Tell whether it plays and hasn't come to its end."""
        position = self.position + time.time() - self.time
        return self.is_playing and position < measure(self.routine)

    def __str__(self) -> str:
        return f"{self.routine} at {self.position:.1f} s"
