"""Views of the test site for those who are logged in, and views that change users."""

from __future__ import annotations

import json
import os
from typing import Any

from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import Group, Permission, User
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from dwebsocket import accept_websocket, require_websocket
from dwebsocket.authentication import bearer_token_required, recheck_user

MAY_VIEW, MAY_ADD = "auth.view_user", "auth.add_user"


@require_websocket
def anybody(request: HttpRequest) -> None:
    """Tell who it is and in which process, then echo."""
    websocket = request.websocket
    name = request.user.username
    websocket.send_json({"user": name, "pid": os.getpid()})
    for message in websocket:
        websocket.send(message)


@require_websocket
def changing(request: HttpRequest, change: str) -> None:
    """Have the user changed after it was found and before the connection is open."""
    user = User.objects.get(pk=request.user.pk)
    CHANGES[change](user)
    anybody(request)


class Permitted(PermissionRequiredMixin, View):
    permission_required = MAY_VIEW
    raise_exception = True

    def get(self, request: HttpRequest) -> Any:
        return anybody(request)


class PermittedByMethod(View):
    @method_decorator([login_required, permission_required(MAY_VIEW)])
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> Any:
        return anybody(request)


class PermittedByUrl(Permitted):
    def get_permission_required(self) -> list[str]:
        return [self.kwargs["permission"]]

    def get(self, request: HttpRequest, permission: str) -> Any:
        return anybody(request)


#: Views that need MAY_VIEW in one way or another.
PERMITTED: dict[str, Any] = {
    "decorator": permission_required(MAY_VIEW)(anybody),
    "exception": permission_required([MAY_VIEW], raise_exception=True)(anybody),
    "mixin": Permitted.as_view(),
    "method": PermittedByMethod.as_view(),
    "around-class": permission_required(MAY_VIEW)(PermittedByMethod.as_view()),
}


def find_token_user(token: str) -> User | None:
    """Return the user of a signed token that is valid for as long as it says."""
    key, seconds = signing.loads(token, salt="tests.logins")
    signing.loads(token, salt="tests.logins", max_age=seconds)
    if key == "fail":
        raise RuntimeError("no user can be found")
    return User.objects.filter(pk=key).exclude(first_name="no tokens").first()


def make_token(key: Any, seconds: float = 3600) -> str:
    return signing.dumps([key, seconds], salt="tests.logins")


def make_bearer_view(view: Any) -> Any:
    return bearer_token_required(find_token_user)(view)


@accept_websocket
def bearer(request: HttpRequest) -> HttpResponse | None:
    """Tell by either way who it is, and what of the token is left in the request."""
    left = {"meta": repr(request.META), "headers": repr(request.headers)}
    data = {**left, "user": request.user.username, "pid": os.getpid()}
    if not request.is_websocket():
        return HttpResponse(json.dumps(data), content_type="application/json")
    websocket = request.websocket
    websocket.send_json({**data, "subprotocol": websocket.subprotocol})
    for message in websocket:
        if message == "fail":
            raise RuntimeError("as asked for")
        websocket.send(message)
    return None


# Changes


def set_password(user: User) -> None:
    user.set_password("another")
    user.save()


def deactivate(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def revoke_tokens(user: User) -> None:
    user.first_name = "no tokens"
    user.save()


def deactivate_silently(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)
    recheck_user(user.pk)


def remove_from_permission(user: User) -> None:
    Permission.objects.get(codename="view_user").user_set.remove(user)


def clear_group(user: User) -> None:
    Group.objects.get(name=user.username).user_set.clear()


def take_from_group(user: User) -> None:
    Group.objects.get(name=user.username).permissions.clear()


CHANGES: dict[str, Any] = {
    # Of a user
    "password": set_password,
    "deactivate": deactivate,
    "deactivate-silently": deactivate_silently,
    "revoke-tokens": revoke_tokens,
    "delete": User.delete,
    "delete-query": lambda user: User.objects.filter(pk=user.pk).delete(),
    # Of a user's permissions
    "take": lambda user: user.user_permissions.clear(),
    "take-reversely": remove_from_permission,
    # Of a user's only group, which has the user's name
    "leave-group": lambda user: user.groups.clear(),
    "clear-group": clear_group,
    "take-from-group": take_from_group,
    "delete-group": lambda user: user.groups.get().delete(),
    # Nothing that matters
    "save": User.save,
    "save-login": lambda user: user.save(update_fields=["last_login"]),
}


@csrf_exempt
def change(request: HttpRequest, name: str) -> HttpResponse:
    """Change something of the user whose name is the body."""
    CHANGES[name](User.objects.get(username=request.body.decode()))
    return HttpResponse()


@csrf_exempt
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse()


@csrf_exempt
def change_own_password(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    set_password(user)
    update_session_auth_hash(request, user)
    return HttpResponse()


urlpatterns = [
    path("", anybody),
    *(path(f"{name}/", view) for name, view in PERMITTED.items()),
    path("url/<str:permission>/", PermittedByUrl.as_view()),
    path("bearer/", make_bearer_view(bearer)),
    path("changing/<str:change>/", changing),
    path("bearer/changing/<str:change>/", make_bearer_view(changing)),
    path("bearer-permitted/", make_bearer_view(PERMITTED["exception"])),
    path("change/<str:name>/", change),
    path("log-out/", log_out),
    path("change-own-password/", change_own_password),
]
