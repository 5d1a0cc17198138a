"""The signals after which a login may no longer hold.

* logout: all connections of that session
* a user saved (password, ``is_active``) or deleted; permissions or groups of a user, or
  of a group, changed: what it concerns is looked at again
* a gap of the groups' backend: all are, some of these may have been missed

What travels to all processes is the channel of the user, or of all, and the digest of
the session that has ended, or nothing: look again.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.db.transaction import TransactionManagementError

from .groups.backends import get_backend
from .groups.base import USER
from .groups.envelope import CONTROL, Envelope
from .logins import make_digest
from .rechecks import ALL_LOGINS, Change, recheck_all
from .signals import group_gap

__all__ = ["connect", "recheck_user"]

DEFAULT = "default"


def connect() -> None:
    """Connect the receivers; once all models are there."""
    try:
        user_model = get_user_model()
    except ImproperlyConfigured:
        return  # a site without users
    user_logged_out.connect(_on_logout)
    group_gap.connect(_on_gap)
    # Signals name the class of the object, which may be a proxy, or have a parent.
    for model in apps.get_models():
        if issubclass(model, user_model):
            post_save.connect(_on_user_saved, model)
            post_delete.connect(_on_user_deleted, model)
    for name in ("groups", "user_permissions"):
        through = getattr(getattr(user_model, name, None), "through", None)
        if through is not None:
            m2m_changed.connect(_on_users_changed, through)
    if apps.is_installed("django.contrib.auth"):
        from django.contrib.auth.models import Group, Permission

        m2m_changed.connect(_on_permissions_changed, Group.permissions.through)
        for model in (Group, Permission):
            post_delete.connect(_on_permissions_changed, model)


def recheck_user(user: Any) -> None:
    """Close the connections of a user who would not be let in now.

    For changes of which Django sends no signal: ``QuerySet.update``, another program.
    ``user`` may be a primary key.  It happens when the transaction commits; should the
    backend's engine not answer, that is logged.
    """
    _publish(_channel(user))


def _on_logout(*, request: Any, user: Any, **kwargs: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if user is not None and session_key is not None:
        _publish(_channel(user), make_digest(session_key))


def _on_user_saved(
    *, instance: Any, created: bool, update_fields: Any, using: str, **kwargs: Any
) -> None:
    # Logging in saves that, and nothing else.
    if not created and set(update_fields or ()) != {"last_login"}:
        _publish(_channel(instance), using=using)


def _on_user_deleted(*, instance: Any, using: str, **kwargs: Any) -> None:
    _publish(_channel(instance), using=using)


def _on_users_changed(
    *, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **kwargs: Any
) -> None:
    if not action.startswith("post_"):
        return
    if not reverse:
        _publish(_channel(instance), using=using)
    elif pk_set is None:
        _publish(ALL_LOGINS, using=using)  # group.user_set.clear()
    else:
        for key in pk_set:
            _publish(_channel(key), using=using)


def _on_permissions_changed(
    *, using: str, action: str = "post_delete", **kwargs: Any
) -> None:
    if action.startswith("post_"):
        _publish(ALL_LOGINS, using=using)


def _on_gap(*, alias: str, **kwargs: Any) -> None:
    if alias == DEFAULT:
        recheck_all(get_backend(DEFAULT).local)


def _channel(user: Any) -> str:
    return f"{USER}{getattr(user, 'pk', user)}"


def _publish(channel: str, digest: str = "", *, using: str | None = None) -> None:
    def publish() -> None:
        backend = get_backend(DEFAULT)
        change = Change(channel, digest)
        backend.publish(ALL_LOGINS, Envelope(CONTROL, change.encode()))

    try:
        # What was changed is done; that somebody couldn't be told of it is logged.
        transaction.on_commit(publish, using=using, robust=True)
    except TransactionManagementError:
        publish()  # without autocommit nobody tells when
