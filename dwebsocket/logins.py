"""Live authentication: who was logged in when a connection was opened still has to be.

Whatever may have changed that, in any process, has the connections of the user looked
at again, by the rules by which they were let in: the session must exist, its hash match
the user's password, the user be active, and pass the tests of ``login_required``,
``permission_required`` and the like around the view.  Those who don't are closed, with
3000 or, if only a permission is missing, 3003.

Here is what a login is and how it is looked at; ``login_signals`` knows when, and
``rechecks`` does it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.functional import SimpleLazyObject

__all__ = [
    "FORBIDDEN",
    "UNAUTHORIZED",
    "Login",
    "SessionLoader",
    "find_login",
    "find_session_ends",
    "find_user_tests",
    "make_digest",
]

#: Close codes of the IANA registry.
UNAUTHORIZED = 3000
FORBIDDEN = 3003

#: Sessions for one query.
_CHUNK = 500

Test = Callable[[Any], Any]


class Login:
    """Who a connection was let in as, and how to find out whether that still holds."""

    __slots__ = ("load_user", "session_key", "tests", "user_id")

    def __init__(
        self,
        user_id: str,
        session_key: str | None,
        load_user: Callable[[], Any],
        tests: tuple[Test, ...],
    ) -> None:
        self.user_id = user_id
        self.session_key = session_key
        #: Returns the user as of now, or None.
        self.load_user = load_user
        #: What the user has to pass.
        self.tests = tests

    def find_close_code(self) -> int | None:
        """Return None if all is as it was, or what to close the connection with.

        Raises what the database, or another one that is asked, raises.
        """
        user = self.load_user()
        if user is None or str(user.pk) != self.user_id:
            return UNAUTHORIZED
        if not getattr(user, "is_active", True):
            return UNAUTHORIZED
        for test in self.tests:
            try:
                is_passed = test(user)
            except PermissionDenied:
                is_passed = False
            if not is_passed:
                return FORBIDDEN
        return None


def find_login(request: HttpRequest) -> Login | None:
    """Return who is logged in, or None.

    Asks the database only if there is a session from which a user may come.
    """
    user: Any = vars(request).get("user")
    session: Any = getattr(request, "session", None)
    session_key = None if session is None else session.session_key
    if (
        isinstance(user, SimpleLazyObject)
        and "_cached_user" not in vars(request)
        and session_key is None
    ):
        return None
    # It may be anything: middlewares of others set it too.
    if not getattr(user, "is_authenticated", False) or not hasattr(user, "pk"):
        return None
    load = getattr(request, "_load_user", None)
    if load is not None:
        session_key = None
    elif session_key is not None and session.get(SESSION_KEY) == str(user.pk):
        load = SessionLoader(session_key)
    else:
        session_key = None
        load = _UserLoader(user)
    return Login(str(user.pk), session_key, load, tuple(_find_tests(request)))


class SessionLoader:
    """Finds the user of a session, as ``django.contrib.auth.get_user`` does.

    But it leaves the session as it is.
    """

    __slots__ = ("_session_key",)

    def __init__(self, session_key: str) -> None:
        self._session_key = session_key

    def __call__(self) -> Any:
        session = _find_session(self._session_key)
        if session is None:
            return None
        path = session.get(BACKEND_SESSION_KEY)
        if path not in settings.AUTHENTICATION_BACKENDS:
            return None
        user_id = get_user_model()._meta.pk.to_python(session[SESSION_KEY])
        user: Any = load_backend(path).get_user(user_id)
        if hasattr(user, "get_session_auth_hash"):
            found = session.get(HASH_SESSION_KEY) or ""
            valid = [user.get_session_auth_hash()]
            valid += user.get_session_auth_fallback_hash()
            if not any(constant_time_compare(found, hash_) for hash_ in valid):
                return None
        return user


class _UserLoader:
    """Finds a user who came without a session: by a middleware of somebody else's."""

    __slots__ = ("_hash", "_user")

    def __init__(self, user: Any) -> None:
        # One that isn't in the database is as it was.
        is_stored = isinstance(user, get_user_model())
        self._user = user.pk if is_stored else user
        self._hash = _hash_password(user) if is_stored else None

    def __call__(self) -> Any:
        if self._hash is None:
            return self._user
        user = get_user_model()._default_manager.filter(pk=self._user).first()
        # Having come by a password or not, after its change they come anew.
        return None if _hash_password(user) != self._hash else user


def _hash_password(user: Any) -> str:
    has_hash = hasattr(user, "get_session_auth_hash")
    return user.get_session_auth_hash() if has_hash else ""


def _make_session(session_key: str | None = None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(session_key)


def _find_session(session_key: str) -> Any:
    """Return the session if somebody is logged in with it, else None."""
    session = _make_session(session_key)
    if SESSION_KEY in session:
        return session
    # Those in a cache look empty when it can't be reached, but this raises then.
    session.exists(session_key)
    return None


def find_session_ends(session_keys: Collection[str]) -> dict[str, float]:
    """Return when the sessions end, those that exist, by ``time.time()``.

    In the database that is certain; others know only how long they would live if they
    were saved now.
    """
    keys = list(session_keys)
    store = _make_session()
    if not hasattr(store, "model"):
        found = {key: _find_session(key) for key in keys}
        return {
            key: time.time() + session.get_expiry_age()
            for key, session in found.items()
            if session is not None
        }
    ends: dict[str, float] = {}
    for start in range(0, len(keys), _CHUNK):
        rows = store.model._default_manager.filter(
            session_key__in=keys[start : start + _CHUNK],
            expire_date__gt=timezone.now(),
        ).values_list("session_key", "expire_date")
        ends.update((key, end.timestamp()) for key, end in rows)
    return ends


def make_digest(session_key: str) -> str:
    """Return what stands for a session where its key had better not be known."""
    digest = salted_hmac("dwebsocket.logins", session_key, algorithm="sha256")
    return digest.hexdigest()


# The tests around a view


def _find_tests(request: HttpRequest) -> Iterator[Test]:
    match = request.resolver_match
    if match is None:
        return
    yield from find_user_tests(match.func)
    view_class: Any = getattr(match.func, "view_class", None)
    if not hasattr(view_class, "get_permission_required"):
        return
    # django.contrib.auth.mixins.PermissionRequiredMixin, which may go by all of these.
    view = view_class(**getattr(match.func, "view_initkwargs", {}))
    view.request, view.args, view.kwargs = request, match.args, match.kwargs
    yield _PermissionTest(tuple(view.get_permission_required()))


class _PermissionTest:
    """What ``PermissionRequiredMixin`` asks."""

    __slots__ = ("_permissions",)

    def __init__(self, permissions: Sequence[str]) -> None:
        self._permissions = permissions

    def __call__(self, user: Any) -> bool:
        return bool(user.has_perms(self._permissions))


@lru_cache(maxsize=1024)
def find_user_tests(view: Callable[..., Any]) -> tuple[Test, ...]:
    """Return the tests of ``user_passes_test`` and its like around a view.

    Django's decorators keep them in a closure of ``django.contrib.auth.decorators``
    (read in Django 4.2 to 6.1).
    """
    tests: list[Test] = []
    dispatch = getattr(getattr(view, "view_class", None), "dispatch", None)
    for layer in (*_unwrap(view), *_unwrap(dispatch)):
        if _is_from(layer, "django.contrib.auth.decorators"):
            tests += _find_in_closure(layer, "test_func")
        elif _is_from(layer, "django.utils.decorators"):
            # method_decorator() applies them whenever the method is called.
            for decorators in _find_in_closure(layer, "decorators"):
                for decorator in decorators:
                    tests += find_user_tests(decorator(_do_nothing))
    # An async one would need an event loop.
    return tuple(test for test in tests if not inspect.iscoroutinefunction(test))


def _unwrap(function: Any) -> Iterator[Any]:
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _is_from(function: Any, module: str) -> bool:
    # Its own __module__ is that of the view.
    return getattr(function, "__globals__", {}).get("__name__") == module


def _find_in_closure(function: Any, name: str) -> list[Any]:
    variables = function.__code__.co_freevars
    cells = zip(variables, function.__closure__ or (), strict=True)
    return [cell.cell_contents for variable, cell in cells if variable == name]


def _do_nothing(request: HttpRequest, *args: Any, **kwargs: Any) -> None:
    """Stand for a view while decorators are looked into."""
