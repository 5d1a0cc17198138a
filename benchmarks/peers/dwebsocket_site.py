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

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from examples.views import echo  # noqa: E402

urlpatterns = [
    path("echo/", echo),
    path("hello/", lambda request: HttpResponse("Hello")),
    path("", include("example.urls")),
]
