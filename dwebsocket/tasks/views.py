"""By which pages watch tasks: ``path("tasks/", dwebsocket.tasks.endpoint)``."""

from __future__ import annotations

from typing import Any

from ..backlog import DROP_OLDEST
from ..conf import settings
from ..messages import MessageError, MessageView, TypedMessage, handles
from .store import check_name, find_group, read_reference, read_state

__all__ = ["TaskView", "endpoint"]


class TaskView(MessageView):
    """Lets its clients watch tasks that they have a signed reference of.

    Others by name as well, where ``may_watch`` says so.  Beside other types on one
    connection: ``class Site(TaskView, Endpoint)``, of ``dwebsocket.messages``.
    """

    def may_watch(self, user: Any, name: str) -> bool:
        """Tell whether a user may watch a task without a reference: no.

        Overridden in a subclass, or given: ``TaskView.as_view(may_watch=function)``.
        """
        return False

    @handles("task.watch")
    def watch(self, message: TypedMessage) -> dict[str, Any]:
        """Have the client get what becomes of a task; return its state as of now."""
        name = self._find_name(message)
        # First join, then read: what happens in between comes twice, not never.  What
        # is dropped, the client finds missing, and asks again.
        group, using = find_group(name), settings.tasks.using
        self.websocket.join(group, slow_consumer=DROP_OLDEST, using=using)
        return read_state(name) or {"task": name, "state": None}

    @handles("task.unwatch")
    def unwatch(self, message: TypedMessage) -> None:
        """End it."""
        name = self._find_name(message)
        self.websocket.leave(find_group(name), using=settings.tasks.using)

    def _find_name(self, message: TypedMessage) -> str:
        """Return the name of the task that may be watched, by name or reference."""
        content = message.content
        given = content.get("task") if isinstance(content, dict) else None
        if not isinstance(given, str):
            raise MessageError("bad_message", "The content needs the task.")
        user_id = None if self._user_pk is None else str(self._user_pk)
        name = read_reference(given, user_id)
        if name is not None:
            return name
        try:
            check_name(given)
            is_allowed = self.may_watch(message.user, given)
        except ValueError:
            is_allowed = False
        if not is_allowed:
            raise MessageError("forbidden", "You may not watch this task.")
        return given


#: For ``path("tasks/", dwebsocket.tasks.endpoint)``: for those with a reference.
endpoint = TaskView.as_view()
