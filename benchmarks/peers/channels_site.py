"""Channels, its consumer asynchronous, with sessions and users; HTTP by Django."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = __name__

from django_settings import *  # noqa: E402, F403

INSTALLED_APPS = [*INSTALLED_APPS, "channels"]  # noqa: F405
ROOT_URLCONF = __name__
if "CHANNEL_LAYER" in os.environ:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": os.environ["CHANNEL_LAYER"],
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    }

from django.core.asgi import get_asgi_application  # noqa: E402

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data, bytes_data=bytes_data)


class FanOut(AsyncWebsocketConsumer):
    groups = ["all"]

    async def receive(self, text_data=None, bytes_data=None):
        message = {"type": "deliver", "text": text_data}
        await self.channel_layer.group_send("all", message)

    async def deliver(self, message):
        await self.send(text_data=message["text"])


urlpatterns = [path("hello/", lambda request: HttpResponse("Hello"))]

websocket = URLRouter([path("echo/", Echo.as_asgi()), path("group/", FanOut.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(websocket)),
    }
)
