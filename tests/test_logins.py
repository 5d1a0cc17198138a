"""Live authentication: connections end with what let them in, and no others do."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import (
    login_required,
    permission_required,
    user_passes_test,
)
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, TestCase, override_settings
from django.urls import resolve
from websockets.exceptions import ConnectionClosed

from dwebsocket import require_websocket
from dwebsocket.authentication import bearer_token_required, recheck_user
from dwebsocket.logins import (
    Login,
    SessionLoader,
    find_login,
    find_session_ends,
    find_user_tests,
)

from .clients import connect, log_in, wait_until_closed
from .login_views import PERMITTED, deactivate, make_token
from .servers import ROOT, TIMEOUT, Farm, Server, find_program, free_port, wait_for


class Redis:
    """A Redis that can go and come back."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._command = [
            *(find_program("redis-server", "redis-server"), "--port", str(self.port)),
            *("--bind", "127.0.0.1", "--dir", str(directory), "--save", ""),
        ]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for(self._is_ready, "Redis")

    def _is_ready(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT)

    def count_subscribers(self, channel: str) -> int:
        with redis.Redis(port=self.port) as client:
            found: Any = client.pubsub_numsub(f"dwebsocket:{channel}")
            return int(found[0][1])


class Site:
    """A server of one worker, or of two with Redis, and its clients."""

    def __init__(self, server: Server, engine: Redis | None) -> None:
        self.server = server
        self.redis = engine
        self.workers = 1 if engine is None else 2
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """End all connections."""
        self._stack.close()

    def open(self, path: str = "", **options: Any) -> Any:
        """Return a connection; its ``hello`` tells the user and the process."""
        websocket = connect(self.server, f"/logins/{path}", **options)
        self._stack.enter_context(websocket)
        websocket.hello = json.loads(websocket.recv(TIMEOUT))
        return websocket

    def open_in_each(self, user: User | None, path: str = "") -> list[Any]:
        """Return connections of one session to all workers."""
        headers = log_in(user.username) if user is not None else {}
        found: dict[int, Any] = {}

        def is_complete() -> bool:
            websocket = self.open(path, additional_headers=headers)
            if found.setdefault(websocket.hello["pid"], websocket) is not websocket:
                websocket.close()
            return len(found) == self.workers

        wait_for(is_complete, "connections to all workers")
        if user is not None:
            self.wait_until_heard(user, self.workers)
        return list(found.values())

    def wait_until_heard(self, user: User, workers: int) -> None:
        """Wait until so many workers hear what concerns a user."""
        engine = self.redis
        if engine is not None:
            wait_for(
                lambda: engine.count_subscribers(f"u:{user.pk}") == workers,
                "subscriptions",
            )

    def post(self, path: str, data: str = "", **headers: str) -> None:
        address = ("127.0.0.1", self.server.port)
        with contextlib.closing(HTTPConnection(*address, timeout=TIMEOUT)) as client:
            client.request("POST", f"/logins/{path}", data, headers)
            assert client.getresponse().status == 200

    def change(self, name: str, user: User) -> None:
        self.post(f"change/{name}/", user.username)


def is_open(websocket: Any) -> bool:
    try:
        websocket.send("still there?")
        return bool(websocket.recv(TIMEOUT) == "still there?")
    except ConnectionClosed:
        return False


def close_codes(websockets: list[Any]) -> set[int]:
    return {wait_until_closed(websocket) for websocket in websockets}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    engine = Redis(tmp_path_factory.mktemp("redis"))
    yield engine
    engine.kill()


def use_redis(engine: Redis) -> str:
    backend = "dwebsocket.groups.redis.RedisBackend"
    location = f"redis://127.0.0.1:{engine.port}"
    return json.dumps({"default": {"BACKEND": backend, "LOCATION": location}})


@pytest.fixture(scope="module", params=["memory", "redis"])
def server_and_engine(
    request: pytest.FixtureRequest, farm: Farm
) -> tuple[Server, Redis | None]:
    if request.param == "memory":
        return farm.start("gunicorn"), None
    engine: Redis = request.getfixturevalue("engine")
    environ = {"GROUPS": use_redis(engine)}
    return farm.start("gunicorn", options=("-w", "2"), **environ), engine


@pytest.fixture
def site(server_and_engine: tuple[Server, Redis | None]) -> Iterator[Site]:
    site = Site(*server_and_engine)
    yield site
    site.close()


_numbers = count()


@pytest.fixture
def new_user(database: None) -> Iterator[Callable[..., User]]:
    """Create users whose permissions are their own or, in a group, of the group."""
    users = []

    def create(permissions: str = "") -> User:
        user = User.objects.create_user(f"login {os.getpid()} {next(_numbers)}")
        users.append(user)
        permission = Permission.objects.get(codename="view_user")
        if permissions == "own":
            user.user_permissions.add(permission)
        elif permissions == "group":
            group = Group.objects.create(name=user.username)
            group.permissions.add(permission)
            user.groups.add(group)
        connection.close()
        return user

    yield create
    for user in users:
        User.objects.filter(pk=user.pk).delete()
        Group.objects.filter(name=user.username).delete()
    connection.close()


NewUser = Callable[..., User]

# Logging out


def test_logout_closes_the_connections_of_the_session(
    site: Site, new_user: NewUser
) -> None:
    user, other = new_user(), new_user()
    session = site.open_in_each(user)
    cookie = session[0].request.headers["Cookie"]
    others = [
        *site.open_in_each(user),  # another session
        *site.open_in_each(other),
        *site.open_in_each(None),
        site.open("bearer/", subprotocols=bearer(user)),
    ]
    site.post("log-out/", Cookie=cookie)
    assert close_codes(session) == {3000}
    assert {websocket.close_reason for websocket in session} == {"not logged in"}
    assert all(map(is_open, others))


def bearer(user: User) -> list[Any]:
    token = base64.urlsafe_b64encode(make_token(user.pk).encode())
    return ["bearer", f"bearer.{token.decode().rstrip('=')}"]


@pytest.mark.parametrize(
    "change",
    ["password", "deactivate", "deactivate-silently", "delete", "delete-query"],
)
def test_a_change_of_the_user_closes_all_connections_of_the_user(
    site: Site, new_user: NewUser, change: str
) -> None:
    user, other = new_user("own"), new_user("own")
    ours = [
        *site.open_in_each(user),
        *site.open_in_each(user),
        *site.open_in_each(user, "decorator/"),
    ]
    if change != "password":
        # That isn't what lets them in.
        ours.append(site.open("bearer/", subprotocols=bearer(user)))
    others = [*site.open_in_each(other, "decorator/"), *site.open_in_each(None)]
    site.change(change, user)
    assert close_codes(ours) == {3000}
    assert all(map(is_open, others))


@pytest.mark.parametrize("change", ["password", "deactivate", "delete"])
def test_a_change_while_a_connection_is_opened(
    site: Site, new_user: NewUser, change: str
) -> None:
    user = new_user()
    headers = log_in(user.username)
    websocket = site.open(f"changing/{change}/", additional_headers=headers)
    assert websocket.hello["user"] == user.username
    assert wait_until_closed(websocket) == 3000
    if change != "password":
        user = new_user()
        path = f"bearer/changing/{change}/"
        websocket = site.open(path, subprotocols=bearer(user))
        assert wait_until_closed(websocket) == 3000


def test_one_who_changes_the_own_password_comes_back(
    site: Site, new_user: NewUser
) -> None:
    user = new_user()
    (websocket, *_) = site.open_in_each(user)
    cookie = websocket.request.headers["Cookie"]
    site.post("change-own-password/", Cookie=cookie)
    assert wait_until_closed(websocket) == 3000


@pytest.mark.parametrize("change", ["save", "save-login"])
def test_what_does_not_matter_closes_nobody(
    site: Site, new_user: NewUser, change: str
) -> None:
    user, marker = new_user("own"), new_user()
    ours = [*site.open_in_each(user), *site.open_in_each(user, "decorator/")]
    ours.append(site.open("bearer/", subprotocols=bearer(user)))
    later = site.open_in_each(marker)
    site.change(change, user)
    # Looked at after the others have been.
    site.change("deactivate", marker)
    assert close_codes(later) == {3000}
    assert all(map(is_open, ours))


def test_the_end_of_a_session(site: Site, new_user: NewUser) -> None:
    user = new_user()
    ending, lasting = site.open_in_each(user), site.open_in_each(user)
    key = ending[0].request.headers["Cookie"].partition("=")[2]
    for seconds in (1, 3, 9):
        # On a slow machine it may have ended by then.
        cookie = make_session(user, seconds)
        short = site.open(additional_headers={"Cookie": cookie})
        if short.hello["user"]:
            break
    assert wait_until_closed(short) == 3000
    assert all(map(is_open, [*ending, *lasting]))
    # Deleted, which nobody is told of, it is missed when it is looked for.
    Session.objects.filter(pk=key).delete()
    site.change("save", user)
    assert close_codes(ending) == {3000}
    assert all(map(is_open, lasting))


def make_session(user: User, seconds: float) -> str:
    """Return the cookie of a session that ends soon."""
    client = Client()
    client.force_login(user)
    session = client.session
    session.set_expiry(seconds)
    session.save()
    connection.close()
    return f"sessionid={session.session_key}"


def test_a_token_is_asked_for_again(site: Site, new_user: NewUser) -> None:
    user, other = new_user(), new_user()
    ours, others = (
        [site.open("bearer/", subprotocols=bearer(who)) for _ in range(3)]
        for who in (user, other)
    )
    site.wait_until_heard(user, len({websocket.hello["pid"] for websocket in ours}))
    site.change("revoke-tokens", user)
    assert close_codes(ours) == {3000}
    assert all(map(is_open, others))


# Permissions


@pytest.mark.parametrize("path", PERMITTED)
def test_a_permission_taken_away_closes_what_needs_it(
    site: Site, new_user: NewUser, path: str
) -> None:
    user, other = new_user("own"), new_user("own")
    ours = site.open_in_each(user, f"{path}/")
    others = [
        *site.open_in_each(user),  # which needs none
        *site.open_in_each(other, f"{path}/"),
    ]
    site.change("take", user)
    assert close_codes(ours) == {3003}
    assert {websocket.close_reason for websocket in ours} == {"not permitted"}
    assert all(map(is_open, others))


@pytest.mark.parametrize(
    "change, permissions",
    [
        ("take-reversely", "own"),
        ("leave-group", "group"),
        ("clear-group", "group"),
        ("take-from-group", "group"),
        ("delete-group", "group"),
    ],
)
def test_ways_to_take_a_permission_away(
    site: Site, new_user: NewUser, change: str, permissions: str
) -> None:
    user, others = new_user(permissions), [new_user("own"), new_user("group")]
    ours = [*site.open_in_each(user, "decorator/"), *site.open_in_each(user, "mixin/")]
    ours.append(site.open("bearer-permitted/", subprotocols=bearer(user)))
    # Another permission of another view.
    kept = [w for other in others for w in site.open_in_each(other, "decorator/")]
    kept += site.open_in_each(user)
    site.change(change, user)
    assert close_codes(ours) == {3003}
    assert all(map(is_open, kept))


def test_a_permission_that_depends_on_the_url(site: Site, new_user: NewUser) -> None:
    user = new_user("own")
    ours = site.open_in_each(user, "url/auth.view_user/")
    site.change("take", user)
    assert close_codes(ours) == {3003}


# Outages


def test_nobody_is_closed_while_the_database_is_away(
    farm: Farm, engine: Redis, new_user: NewUser, tmp_path: Path
) -> None:
    users = [new_user("own"), new_user("own")]
    cookies = [log_in(user.username) for user in users]
    database, away = tmp_path / "db.sqlite3", tmp_path / "away"
    shutil.copy(os.environ["DATABASE_PATH"], database)
    setting = use_redis(engine)
    environ = {"DATABASE_PATH": str(database), "GROUPS": setting}
    server = farm.start("gunicorn", options=("-w", "2"), **environ)
    with contextlib.closing(Site(server, engine)) as site:
        ours, others = (
            [site.open(path, additional_headers=cookie) for path in ("", "decorator/")]
            for cookie in cookies
        )
        for user, websockets in zip(users, (ours, others), strict=True):
            workers = {websocket.hello["pid"] for websocket in websockets}
            site.wait_until_heard(user, len(workers))
        database.rename(away)
        # Any process may say so, also one that isn't on gevent.
        with override_settings(WEBSOCKET_GROUPS=json.loads(setting)):
            for user in users:
                recheck_user(user)
        wait_for(lambda: "logins can't be looked at" in server.log, "an attempt")
        assert all(map(is_open, [*ours, *others]))
        with contextlib.closing(sqlite3.connect(away)) as client:
            client.execute(
                "UPDATE auth_user SET is_active = 0 WHERE id = ?", [users[0].pk]
            )
            client.commit()
        away.replace(database)
        assert close_codes(ours) == {3000}
        assert all(map(is_open, others))


def test_what_was_missed_while_redis_was_away(
    farm: Farm, new_user: NewUser, tmp_path: Path
) -> None:
    engine = Redis(tmp_path)
    server = farm.start("gunicorn", options=("-w", "2"), GROUPS=use_redis(engine))
    user, other = new_user("own"), new_user("own")
    with contextlib.closing(Site(server, engine)) as site:
        ours = [*site.open_in_each(user), *site.open_in_each(user, "decorator/")]
        others = site.open_in_each(other, "decorator/")
        engine.kill()
        # Whoever changes it isn't held up by that.
        site.change("deactivate", user)
        assert "Redis" in server.log
        assert all(map(is_open, [*ours, *others]))
        engine.start()
        assert close_codes(ours) == {3000}
        assert all(map(is_open, others))
    engine.kill()


# What a login is


def get(path: str = "/", cookie: dict[str, str] | None = None) -> HttpRequest:
    """Return a request as it is when its view is called."""
    request = RequestFactory().get(path, headers=cookie)
    for middleware in (SessionMiddleware, AuthenticationMiddleware):
        # It is asked to do nothing with the response.
        middleware(lambda request: HttpResponse()).process_request(request)
    request.resolver_match = resolve(path)
    return request


@contextlib.contextmanager
def count_queries() -> Iterator[list[str]]:
    queries: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        queries.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        yield queries
    connection.close()


def test_who_is_anonymous_costs_nothing(database: None) -> None:
    with count_queries() as queries:
        assert find_login(get("/logins/decorator/")) is None
        assert find_login(RequestFactory().get("/")) is None
    assert queries == []


def test_a_session_is_read_once(new_user: NewUser) -> None:
    user = new_user()
    request = get("/logins/", log_in(user.username))
    with count_queries() as queries:
        login = find_login(request)
        assert find_login(request)
        assert request.user == user
    assert login is not None and login.user_id == str(user.pk)
    assert ["django_session" in sql for sql in queries] == [True, False]
    with count_queries() as queries:
        assert login.find_close_code() is None
    assert len(queries) == 2


def test_users_of_others(new_user: NewUser) -> None:
    """Middlewares may set whatever they like."""
    request = RequestFactory().get("/")
    request.resolver_match = None
    for user in (None, "ann", {"pk": 1}, AnonymousUser(), object()):
        request.user = user  # type: ignore[assignment]
        assert find_login(request) is None

    class Stateless:
        is_authenticated = True
        pk = 7

    request.user = Stateless()  # type: ignore[assignment]
    login = find_login(request)
    assert login is not None
    assert (login.user_id, login.find_close_code()) == ("7", None)

    user = request.user = new_user()
    login = find_login(request)
    assert login is not None
    assert (login.user_id, login.find_close_code()) == (str(user.pk), None)
    user.set_password("another")
    user.save()
    assert login.find_close_code() == 3000
    login = find_login(request)
    assert login is not None and login.find_close_code() is None
    User.objects.filter(pk=user.pk).delete()
    assert login.find_close_code() == 3000


def test_the_session_of_somebody_else_is_not_asked(new_user: NewUser) -> None:
    user, other = new_user(), new_user()
    request = get("/logins/", log_in(user.username))
    request.user = other
    login = find_login(request)
    assert login is not None
    assert (login.user_id, login.session_key) == (str(other.pk), None)


ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]


@pytest.fixture(params=ENGINES)
def session_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    engine = f"django.contrib.sessions.backends.{request.param}"
    with override_settings(SESSION_ENGINE=engine, SESSION_FILE_PATH=str(tmp_path)):
        yield request.param


def test_sessions_of_all_engines(new_user: NewUser, session_engine: str) -> None:
    user = new_user()
    cookie = log_in(user.username)
    key = cookie["Cookie"].partition("=")[2]
    login = find_login(get("/logins/", cookie))
    assert login is not None
    assert (login.user_id, login.session_key) == (str(user.pk), key)
    assert login.find_close_code() is None
    ends = find_session_ends({key, "missing"})
    assert ends.keys() == {key}
    assert abs(ends[key] - time.time() - 14 * 24 * 3600) < 3600
    user.set_password("another")
    user.save()
    assert login.find_close_code() == 3000
    if session_engine != "signed_cookies":  # of which no server knows the end
        client = Client(headers=cookie)
        client.cookies.load(cookie["Cookie"])
        client.logout()
        assert find_session_ends({key}) == {}
        assert login.find_close_code() == 3000
    connection.close()


def test_many_sessions(new_user: NewUser) -> None:
    key = log_in(new_user().username)["Cookie"].partition("=")[2]
    keys = {key, *map(str, range(1200))}
    with count_queries() as queries:
        assert find_session_ends(keys).keys() == {key}
    assert len(queries) == 3
    with count_queries() as queries:
        assert find_session_ends(()) == {}
    assert queries == []


def test_sessions_in_a_cache_that_is_away(new_user: NewUser) -> None:
    """They look as if they had gone, and haven't."""
    location = f"redis://127.0.0.1:{free_port()}"
    backend = "django.core.cache.backends.redis.RedisCache"
    with override_settings(
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        CACHES={"default": {"BACKEND": backend, "LOCATION": location}},
    ):
        with pytest.raises(redis.ConnectionError):
            find_session_ends({"key"})
        user = new_user()
        login = Login(str(user.pk), "key", SessionLoader("key"), ())
        with pytest.raises(redis.ConnectionError):
            login.find_close_code()


# Tests around views


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def test_the_tests_of_decorators_are_found() -> None:
    """They are in a closure of Django's, so a version that changes it fails here."""
    may = permission_required("auth.view_user")
    assert find_user_tests(plain) == ()
    assert find_user_tests(require_websocket(plain)) == ()
    for view in (
        may(plain),
        require_websocket(may(plain)),
        may(require_websocket(plain)),
        permission_required(["auth.view_user"], raise_exception=True)(plain),
        bearer_token_required(lambda token: None)(may(plain)),
    ):
        (test,) = find_user_tests(view)
        assert test(Holder("auth.view_user"))
        if view is not None:
            try:
                assert not test(Holder())
            except PermissionDenied:
                pass

    def is_ann(user: Any) -> bool:
        return bool(user.username == "ann")

    found = find_user_tests(login_required(user_passes_test(is_ann)(plain)))
    assert found[1] is is_ann
    assert found[0](Holder()) and not found[0](AnonymousUser())
    (test,) = find_user_tests(staff_member_required(plain))
    assert not test(Holder())

    async def later(user: Any) -> bool:
        return False

    assert find_user_tests(user_passes_test(later)(plain)) == ()


class Holder:
    is_active = is_authenticated = True
    is_staff = False
    username = "ann"

    def __init__(self, *permissions: str) -> None:
        self._permissions = permissions

    def has_perms(self, permissions: Any) -> bool:
        return set(permissions) <= set(self._permissions)


@pytest.mark.parametrize("path", PERMITTED)
def test_the_tests_of_classes_are_found(new_user: NewUser, path: str) -> None:
    user = new_user("own")
    login = find_login(get(f"/logins/{path}/", log_in(user.username)))
    assert login is not None and login.tests
    assert all(test(Holder("auth.view_user")) for test in login.tests)
    login.load_user = lambda: user
    assert login.find_close_code() is None
    login.load_user = lambda: User.objects.get(pk=user.pk)
    user.user_permissions.clear()
    assert login.find_close_code() == 3003
    connection.close()


# The test client


@pytest.mark.usefixtures("database")
class TestClientTests(TestCase):
    """In a process that nothing is patched in, and in the test's transaction."""

    def setUp(self) -> None:
        self.user: Any = User.objects.create_user("tested")
        permission = Permission.objects.get(codename="view_user")
        self.user.user_permissions.add(permission)
        self.client.force_login(self.user)

    def assert_closes(self, path: str, code: int, change: Callable[[], Any]) -> None:
        other: Any = Client()
        other.force_login(User.objects.create_user("other"))
        with (
            self.client.websocket_connect(f"/logins/{path}") as websocket,
            other.websocket_connect("/logins/") as survivor,
        ):
            for open_ in (websocket, survivor):
                open_.wait_json()
            with self.captureOnCommitCallbacks(execute=True):
                change()
            self.assertIsNone(websocket.wait())
            self.assertEqual(websocket.close_code, code)
            survivor.send("x")
            self.assertEqual(survivor.wait(), "x")

    def test_logout(self) -> None:
        self.assert_closes("", 3000, self.client.logout)

    def test_deactivation(self) -> None:
        self.assert_closes("", 3000, lambda: deactivate(self.user))

    def test_permission(self) -> None:
        self.assert_closes("mixin/", 3003, self.user.user_permissions.clear)

    def test_no_commit_no_change(self) -> None:
        with self.client.websocket_connect("/logins/") as websocket:
            websocket.wait_json()
            deactivate(self.user)
            websocket.send("x")
            self.assertEqual(websocket.wait(), "x")


# Processes without connections

_PLAIN = """
import sys, warnings
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS={apps!r},
    DATABASES={{
        "default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    }},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SECRET_KEY="x",
)
django.setup()
import dwebsocket.authentication, dwebsocket.groups
from dwebsocket import require_websocket
"""

_SAVE = """
from django.core.management import call_command
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction

call_command("migrate", verbosity=0)
user = User.objects.create_user("ann")
group = Group.objects.create(name="a")
user.groups.add(group)
group.user_set.clear()
group.permissions.add(Permission.objects.first())
user.save()
with transaction.atomic():
    user.save()
connection.set_autocommit(False)
user.save()
connection.commit()
connection.set_autocommit(True)
group.delete()
user.delete()

import gevent._hub_local
assert "redis" not in sys.modules
assert gevent._hub_local.get_hub_if_exists() is None
"""


@pytest.mark.parametrize(
    "apps, more",
    [
        (["dwebsocket"], ""),
        (
            [
                "dwebsocket",
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "django.contrib.sessions",
            ],
            _SAVE,
        ),
    ],
)
def test_processes_without_connections_notice_nothing(
    apps: list[str], more: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PLAIN.format(apps=apps) + more],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
