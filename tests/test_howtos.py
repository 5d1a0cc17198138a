"""The how-to pages of docs/, done as they tell, in a new project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .clients import connect
from .guides import Guide
from .redis_servers import open_redis
from .servers import TIMEOUT, free_port, wait_for


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_guide(
    stack: ExitStack, directory: Path, name: str, urls: str = "", **ports: int
) -> Guide:
    """Return the page's guide in a new project, with these lines of a URLconf."""
    ours = {"8000": free_port()} | {key.strip("_"): ports[key] for key in ports}
    guide = stack.enter_context(Guide(name, directory, ours))
    guide.run("django-admin startproject mysite .")
    settings = directory / "mysite" / "settings.py"
    apps = "INSTALLED_APPS = ["
    text = settings.read_text()
    assert apps in text
    settings.write_text(text.replace(apps, f"{apps}\n    'dwebsocket',"))
    (directory / "mysite" / "urls.py").write_text(
        "from django.urls import path\n"
        "from mysite import views\n\n"
        f"urlpatterns = [{urls}]\n"
    )
    return guide


def check_echo(guide: Guide, path: str, prefix: str = "") -> None:
    with connect(guide.server, path) as websocket:
        for text in "hello", "again":
            websocket.send(text)
            assert websocket.recv(TIMEOUT) == prefix + text


def check_chat(guide: Guide, *welcome: str) -> None:
    """What one says both hear, also after somebody has left."""
    with connect(guide.server, "/chat/") as ann:
        for text in welcome:
            assert ann.recv(TIMEOUT) == text
        # Then she is in, whatever the server does first.
        ann.send("hello")
        assert ann.recv(TIMEOUT) == "hello"
        with connect(guide.server, "/chat/") as bob:
            for text in welcome:
                assert bob.recv(TIMEOUT) == text
            bob.send("hello")
            assert bob.recv(TIMEOUT) == "hello"
            assert ann.recv(TIMEOUT) == "hello"
        ann.send("still here")
        assert ann.recv(TIMEOUT) == "still here"


def test_coming_from_gevent_websocket(stack: ExitStack, tmp_path: Path) -> None:
    name = "coming-from-gevent-websocket.rst"
    guide = open_guide(stack, tmp_path, name, 'path("echo/", views.echo)')
    guide.follow_to("With dwebsocket the decorator does that")
    check_echo(guide, "/echo/")
    assert guide.server.get("/echo/")[0] == 400
    guide.stop()
    guide.follow_to("Both can be changed one after the other")
    check_echo(guide, "/echo/")
    assert guide.server.get("/echo/")[0] == 400
    guide.stop()

    guide.follow_to("With dwebsocket, the class is a view")
    check_chat(guide, "Welcome")
    wait_for(lambda: "Somebody has left" in guide.server.log, "the end")
    guide.stop()
    urls = tmp_path / "mysite" / "urls.py"
    text = urls.read_text()
    urls.write_text(
        text.replace('"echo/", views.echo', '"chat/", views.Chat.as_view()')
    )
    guide.follow_to_end()
    check_chat(guide, "Welcome")
    wait_for(lambda: "Somebody has left" in guide.server.log, "the end")


def test_coming_from_flask_sock(stack: ExitStack, tmp_path: Path) -> None:
    guide = open_guide(stack, tmp_path, "coming-from-flask-sock.rst")
    guide.follow_to("With dwebsocket, the end of the connection")
    check_echo(guide, "/echo/ann/", "ann: ")
    check_chat(guide)
    guide.stop()
    guide.follow_to_end()
    check_echo(guide, "/echo/ann/", "ann: ")
    check_chat(guide)


def test_coming_from_dwebsocket_0_5(stack: ExitStack, tmp_path: Path) -> None:
    guide = open_guide(stack, tmp_path, "coming-from-dwebsocket-0.5.rst")
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write(
            "WEBSOCKET_FACTORY_CLASS = 'dwebsocket.backends.uwsgi.factory.Factory'\n"
            "MIDDLEWARE.append('dwebsocket.middleware.WebSocketMiddleware')\n"
        )
    server = (
        "gunicorn -k dwebsocket.workers.WebSocketWorker "
        f"-b 127.0.0.1:{guide.port} mysite.wsgi"
    )
    guide.follow_to("A list of connections")
    assert "dwebsocket.W001" in guide.run("python manage.py check")
    guide.start(server)
    guide.server.wait_until_listening()
    with connect(guide.server, "/echo-once/") as websocket:
        websocket.send("once")
        assert websocket.recv(TIMEOUT) == "once"
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(TIMEOUT)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000
    assert guide.server.get("/lower-case/?message=LOUD")[2] == "loud"
    with connect(guide.server, "/lower-case/") as websocket:
        websocket.send("LOUD")
        assert websocket.recv(TIMEOUT) == "loud"
    with pytest.raises(InvalidStatus):
        connect(guide.server, "/chat/", origin="https://elsewhere.example")
    check_chat(guide)
    guide.stop()
    guide.follow_to_end()
    guide.start(server)
    guide.server.wait_until_listening()
    check_chat(guide)


def test_celery(stack: ExitStack, tmp_path: Path) -> None:
    engine = stack.enter_context(open_redis(tmp_path))
    port = engine.servers[0].port
    guide = open_guide(stack, tmp_path, "celery.rst", _6379=port)
    guide.follow_to("Worth knowing")
    with connect(guide.server, "/sums/") as member:
        wait_for(lambda: "g:sums" in engine.channels(), "the member")
        with connect(guide.server, "/add/") as websocket:
            websocket.send("1 2 3")
            assert websocket.recv(TIMEOUT) == "It is 6."
        assert member.recv(TIMEOUT) == '{"newest":6}'
    guide.follow_to_end()
