"""The WebSocket views: this is all the code the server side of an example has.

The pages on which they can be tried are made in `pages`.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse

from dwebsocket import accept_websocket, require_websocket
from dwebsocket.views import WebSocketView


@require_websocket
def echo_once(request: HttpRequest) -> None:
    message = request.websocket.wait()
    request.websocket.send(message)


@require_websocket(max_message_size=16 * 1024 * 1024)
def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@accept_websocket
def lower(request: HttpRequest) -> HttpResponse | None:
    if not request.is_websocket():
        message = request.GET.get("message", "").lower()
        return HttpResponse(message, "text/plain; charset=utf-8")
    for message in request.websocket:
        request.websocket.send(message.lower())
    return None


@login_required
@require_websocket
def members(request: HttpRequest) -> None:
    request.websocket.send(f"Hello {request.user}")
    for message in request.websocket:
        request.websocket.send(f"{request.user} said {message}")


class EchoHandler(WebSocketView):
    def receive(self, message: str | bytes) -> None:
        self.websocket.send(message)
