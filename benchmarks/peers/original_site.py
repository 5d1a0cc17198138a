"""The original dwebsocket 0.5 in a Django 3.0 site, on gunicorn's gevent worker."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = __name__

from django_settings import *  # noqa: E402, F403

ROOT_URLCONF = __name__

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from dwebsocket.decorators import require_websocket  # noqa: E402


@require_websocket
def echo(request):
    for message in request.websocket:
        if message is None:  # the connection has closed
            break
        request.websocket.send(message)


urlpatterns = [
    path("hello/", lambda request: HttpResponse("Hello")),
    path("echo/", echo),
]
