"""What the app registers; found by ``dwebsocket`` when Django starts."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms

from dwebsocket.exceptions import ConnectionClosed
from dwebsocket.messages import MessageError, TypedMessage, encode, register


class AddForm(forms.Form):
    first = forms.IntegerField()
    second = forms.IntegerField(min_value=0)

    def clean(self) -> None:
        if self.cleaned_data.get("first") == 13:
            raise forms.ValidationError("Not that one.", "unlucky")


@register
def echo(message: TypedMessage) -> Any:
    return message.content


@register("add", form=AddForm)
def add_numbers(message: TypedMessage) -> int:
    return message.content["first"] + message.content["second"]


@register("chat.describe")
def describe(message: TypedMessage) -> dict[str, Any]:
    return {
        "type": message.type,
        "meta": message.meta,
        "user": str(message.user),
        "day": datetime.date(2026, 1, 31),
    }


@register
def push(message: TypedMessage) -> None:
    message.websocket.send(encode("chat.pushed", message.content, meta={"n": 1}))


@register
def fail(message: TypedMessage) -> Any:
    raise ZeroDivisionError("a secret")


@register
def not_json(message: TypedMessage) -> Any:
    return {"set": {1, 2}, "number": float("nan")}[message.content]


@register
def refuse(message: TypedMessage) -> Any:
    raise MessageError("chat.full", "The room is full.")


@register
def leave(message: TypedMessage) -> None:
    message.websocket.close(4000)
    raise ConnectionClosed(4000)
