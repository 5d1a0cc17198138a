"""The example project, with a trivial view to compare the handshake with.

Both are found at once, as on the other servers: the handshake is measured, not the
length of the way through the example's URLs.
"""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = __name__
os.environ["DEBUG"] = "0"

from example.settings import *  # noqa: E402, F403

ROOT_URLCONF = __name__
LOGGING = {"version": 1, "root": {"level": "ERROR"}}
if "REDIS_URL" in os.environ:
    WEBSOCKET_GROUPS = {
        "default": {
            "BACKEND": "dwebsocket.groups.redis.RedisBackend",
            "LOCATION": os.environ["REDIS_URL"],
        }
    }

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from examples.views import EchoHandler, echo  # noqa: E402

from dwebsocket import groups, require_websocket  # noqa: E402


@require_websocket
def fan_out(request):
    request.websocket.join("all")
    for message in request.websocket:
        groups.send("all", message)


urlpatterns = [
    path("echo/", echo),
    path("echo-handler/", EchoHandler.as_view()),
    path("group/", fan_out),
    path("hello/", lambda request: HttpResponse("Hello")),
    path("", include("example.urls")),
]
