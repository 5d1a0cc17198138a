"""Typed messages: JSON envelopes, each given to what is registered for its type.

An envelope is an object with ``type`` (``<app>.<event>``) and, as it likes, ``content``
(anything), ``meta`` (an object) and ``id`` (a string or an integer).  What came with
an ``id`` is answered with a ``reply`` of the same ``id``.  What goes wrong is answered
with an ``error``; its ``code`` is one of those of ``MessageError``.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar, overload

import gevent
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import classonlymethod

from .exceptions import ConnectionClosed
from .failures import report
from .protocol import Message
from .signals import typed_message_handled, typed_message_received
from .views import WebSocketView
from .websocket import WebSocket

__all__ = [
    "Endpoint",
    "MessageError",
    "MessageView",
    "TypedMessage",
    "encode",
    "endpoint",
    "handles",
    "register",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class MessageError(Exception):
    """What a client is told of a message that can't be handled.

    ``code`` is ``bad_json``, ``bad_message`` (not an envelope), ``unknown_type``,
    ``invalid`` (with ``fields``: errors by field), ``internal_error``, or the
    application's own: what handles a message may raise this.
    """

    def __init__(
        self, code: str, message: str, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.fields = fields


@dataclass
class TypedMessage:
    """A message as it is handled: ``content`` is the form's cleaned data, if any."""

    view: MessageView
    type: str
    content: Any
    meta: dict[str, Any]
    id: str | int | None

    @property
    def websocket(self) -> WebSocket:
        """The connection that it came over."""
        return self.view.websocket

    @cached_property
    def user(self) -> Any:
        """What ``view.get_user()`` returns, asked for once per message."""
        return self.view.get_user()


class _Entry(NamedTuple):
    """What handles a type: a function or, by its name, a method."""

    function: Any
    form: Callable[..., BaseForm] | None


#: What ``register`` has registered, by type.
_registered: dict[str, _Entry] = {}


@overload
def register(event: _Function) -> _Function: ...
@overload
def register(
    event: str | None = None, *, form: Callable[..., BaseForm] | None = None
) -> Callable[[_Function], _Function]: ...
def register(event: Any = None, *, form: Callable[..., BaseForm] | None = None) -> Any:
    """Have a function called with each TypedMessage of a type that ``endpoint`` gets.

    The type is ``<app>.<event>``: the label of the app that the function is in, and
    the name given here, else the function's.  ``form`` is the class of a form that
    validates ``content``, an object.  What the function returns is the reply.

    Raises ImproperlyConfigured for a type that is registered already.
    """
    if callable(event):
        return register()(event)

    def decorate(function: _Function) -> _Function:
        _check_plain(function)
        type_ = _make_type(function.__module__, event or function.__name__)
        if type_ in _registered:
            raise ImproperlyConfigured(f"{type_} is registered twice")
        _registered[type_] = _Entry(function, form)
        return function

    return decorate


def handles(
    event: str, *, form: Callable[..., BaseForm] | None = None
) -> Callable[[_Function], _Function]:
    """Have a method of a MessageView called with each TypedMessage of a type.

    Otherwise like ``register``; the app is the one that the class is in.
    """

    def decorate(method: _Function) -> _Function:
        _check_plain(method)
        method._handles = event, form  # type: ignore[attr-defined]
        return method

    return decorate


def encode(
    type: str,
    content: Any = None,
    *,
    meta: dict[str, Any] | None = None,
    id: str | int | None = None,
) -> str:
    """Return the JSON text of an envelope, for ``websocket.send()`` and the like.

    Dates, decimals and the like are those of DjangoJSONEncoder.  Raises TypeError or
    ValueError for what isn't JSON.
    """
    envelope = {"type": type, "id": id, "content": content, "meta": meta}
    for name in "id", "meta":
        if envelope[name] is None:
            del envelope[name]
    return json.dumps(
        envelope, allow_nan=False, cls=DjangoJSONEncoder, separators=(",", ":")
    )


class MessageView(WebSocketView):
    """A handler whose methods get the messages of one type each: see ``handles``."""

    _methods: ClassVar[dict[str, _Entry]] = {}
    _user_pk: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A method that overrides another one takes its type, or another.
        types = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if hasattr(value, "_handles"):
                    event, form = value._handles
                    types[name] = _make_type(base.__module__, event), form
        cls._methods = {}
        for name, (type_, form) in types.items():
            if type_ in cls._methods:
                raise ImproperlyConfigured(f"{cls.__name__} handles {type_} twice")
            cls._methods[type_] = _Entry(name, form)

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        # Of the user no more than this is kept.
        self._user_pk = getattr(getattr(request, "user", None), "pk", None)
        return super().dispatch(request, *args, **kwargs)

    def get_user(self) -> Any:
        """Return the user that opened the connection, fresh from the database.

        AnonymousUser if there was none, or is none any more.
        """
        from django.contrib.auth import get_user_model
        from django.contrib.auth.models import AnonymousUser

        if self._user_pk is None:
            return AnonymousUser()
        users = get_user_model()._default_manager
        return users.filter(pk=self._user_pk).first() or AnonymousUser()

    def find_entry(self, type: str) -> _Entry | None:
        """Return what is registered for a type, or None."""
        entry = self._methods.get(type)
        if entry is None:
            return None
        return entry._replace(function=getattr(self, entry.function))

    def receive(self, message: Message) -> None:
        id_: str | int | None = None
        try:
            envelope = _parse(message)
            id_ = _parse_id(envelope)
            answer = self._handle(_make_typed(self, envelope, id_))
        except MessageError as exc:
            error: dict[str, Any] = {"code": exc.code, "message": exc.message}
            if exc.fields is not None:
                error["fields"] = exc.fields
            answer = encode("error", error, id=id_)
        if answer is not None:
            self.websocket.send(answer)

    def _handle(self, message: TypedMessage) -> str | None:
        """Return the encoded reply, None to a message without id.

        Raises MessageError, and ConnectionClosed as the handler does.
        """
        entry = self.find_entry(message.type)
        if entry is None:
            raise MessageError("unknown_type", "There is no such type of message.")
        about = {"sender": WebSocket, "websocket": self.websocket, "message": message}
        started_at = time.monotonic()
        error: str | None = None
        try:
            typed_message_received.send(**about)
            if entry.form is not None:
                message.content = _validate(entry.form, message.content)
            content = entry.function(message)
            if message.id is None:
                return None
            return encode("reply", content, id=message.id)
        except ConnectionClosed:
            raise
        except MessageError as exc:
            error = exc.code
            raise
        except (Exception, gevent.Timeout) as exc:
            error = "internal_error"
            report(f"the handler of {message.type}", getattr(self, "request", None))
            raise MessageError(error, "This failed on the server.") from exc
        finally:
            duration = time.monotonic() - started_at
            typed_message_handled.send(**about, duration=duration, error=error)


class Endpoint(MessageView):
    """Gets all types that are registered, and those that its methods handle."""

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        for type_ in cls._methods.keys() & _registered.keys():
            raise ImproperlyConfigured(f"{cls.__name__} and a function handle {type_}")
        return super().as_view(**initkwargs)

    def find_entry(self, type: str) -> _Entry | None:
        return super().find_entry(type) or _registered.get(type)


#: For ``path("ws/", dwebsocket.messages.endpoint)``.
endpoint = Endpoint.as_view()


def _check_plain(function: Any) -> None:
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} is async; it has to be plain")


def _make_type(module: str, event: str) -> str:
    config = apps.get_containing_app_config(module)
    if config is None:
        raise ImproperlyConfigured(f"{module} isn't in an installed app")
    label, dot, _ = event.partition(".")
    if not dot:
        return f"{config.label}.{event}"
    # What comes with dwebsocket has types for what it is about.
    if label != config.label and config.name != "dwebsocket":
        raise ImproperlyConfigured(
            f"{event!r} doesn't begin with {config.label!r}, the app of {module}"
        )
    return event


def _parse(message: Message) -> dict[str, Any]:
    try:
        envelope = json.loads(message, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise MessageError("bad_json", "This isn't JSON.") from exc
    if not isinstance(envelope, dict):
        raise MessageError("bad_message", "A message has to be an object.")
    return envelope


def _refuse_constant(name: str) -> NoReturn:
    # RFC 8259 section 6: "Numeric values that cannot be represented in the grammar
    # below (such as Infinity and NaN) are not permitted."
    raise ValueError(f"{name} isn't JSON")


def _parse_id(envelope: dict[str, Any]) -> str | int | None:
    id_ = envelope.get("id")
    if id_ is None or isinstance(id_, (str, int)) and not isinstance(id_, bool):
        return id_
    raise MessageError("bad_message", "An id has to be a string or an integer.")


def _make_typed(
    view: MessageView, envelope: dict[str, Any], id: str | int | None
) -> TypedMessage:
    type_, meta = envelope.get("type"), envelope.get("meta")
    if not isinstance(type_, str):
        raise MessageError("bad_message", "The type has to be a string.")
    if meta is not None and not isinstance(meta, dict):
        raise MessageError("bad_message", "The meta has to be an object.")
    return TypedMessage(view, type_, envelope.get("content"), meta or {}, id)


def _validate(form_class: Callable[..., BaseForm], content: Any) -> dict[str, Any]:
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise MessageError("bad_message", "The content has to be an object.")
    form = form_class(data=content)
    if not form.is_valid():
        fields = form.errors.get_json_data()
        raise MessageError("invalid", "The content is invalid.", fields)
    return form.cleaned_data
