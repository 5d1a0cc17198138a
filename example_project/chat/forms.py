"""What the contents of the chat's messages have to be."""

from __future__ import annotations

from django import forms

from .models import Line

ROOMS = {"lobby": "Lobby", "gevent": "gevent", "django": "Django", "tea": "Tea kitchen"}


class RoomForm(forms.Form):
    """Names a room to enter."""

    room = forms.ChoiceField(choices=ROOMS.items())


class LineForm(forms.ModelForm):
    """Says a line in the room that one is in."""

    class Meta:
        model = Line
        fields = ["room", "text"]
        widgets = {
            "text": forms.TextInput(
                {"autocomplete": "off", "aria-describedby": "chat-error"}
            )
        }
