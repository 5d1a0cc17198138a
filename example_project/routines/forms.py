"""What the contents of the messages about routines have to be."""

from __future__ import annotations

from typing import Any

from django import forms

from .steps import ROUTINES, measure


class RoutineForm(forms.Form):
    """Names a routine."""

    routine = forms.ChoiceField(choices=[(name, name) for name in ROUTINES])


class PlaybackForm(RoutineForm):
    """Says where a routine is, and whether it goes on from there."""

    is_playing = forms.BooleanField(required=False)
    position = forms.FloatField(min_value=0)  # seconds

    def clean(self) -> dict[str, Any]:
        content: dict[str, Any] = super().clean()
        if content.keys() >= {"routine", "position"}:
            if content["position"] > measure(content["routine"]):
                self.add_error("position", "The routine isn't that long.")
        return content
