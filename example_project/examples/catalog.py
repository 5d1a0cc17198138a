"""The list of examples, from which the index, the URLs and the pages are made.

To add an example, write its view in `views` and its entry here. A page that
needs more than the usual live panel extends `examples/page.html` in a template
named after the example, such as `examples/lower.html`.  An example that is larger is
an app of its own, with a view for its page, such as `chat`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chat.forms
import chat.messages
import chat.views
import example.endpoint
import routines.messages
import routines.views

from . import models, noise, tasks, views


@dataclass(frozen=True)
class Example:
    """One example: its view and what its card and its page say of it."""

    view: Callable[..., Any]  # or what handles a message, if `url_name` is given
    title: str
    summary: str
    name: str = ""  # in URLs and templates: that of the view, with hyphens, if empty
    url_name: str = ""  # of its WebSocket, if that isn't at the URL of its page
    message: str = "Hello, World!"  # what the input holds at first
    has_replies: bool = True  # one reply per message, so show the round trip
    has_binary: bool = False  # offer to send bytes and files
    page: Callable[..., Any] | None = None  # a view for its page, if it has its own
    more_source: tuple[Callable[..., Any], ...] = ()  # shown below the view's
    scripts: tuple[str, ...] = ()  # static files that are shown as well

    def __post_init__(self) -> None:
        if not self.name:
            name = re.sub("_|(?<=[a-z])(?=[A-Z])", "-", self.source.__name__).lower()
            object.__setattr__(self, "name", name)

    @property
    def source(self) -> Any:
        """What the page shows of the view: the function, or the class."""
        return getattr(self.view, "view_class", self.view)


EXAMPLES = [
    Example(
        views.echo_once,
        "Echo once",
        "Wait for one message, send it back, return. Returning closes the connection.",
    ),
    Example(
        views.echo,
        "Echo",
        "Loop over the messages and send each one back: text or bytes, up to 16 MiB.",
        has_binary=True,
    ),
    Example(
        views.lower,
        "Lower case",
        "One view, one URL: lower case over a WebSocket and over plain HTTP.",
        message="Hello, LOUD World!",
    ),
    Example(
        views.members,
        "Members only",
        "Django’s login_required guards a WebSocket as it guards any other view.",
        message="Nice to be here.",
    ),
    Example(
        views.bearer_token,
        "Bearer token",
        "A script fetches a signed token and connects with it: no cookie is needed.",
        message="Nice to be here.",
        more_source=(views.new_token, views.find_token_user),
    ),
    Example(
        views.EchoHandler.as_view(),
        "Echo handler",
        "A class with a method per event: an idle connection needs no greenlet.",
    ),
    Example(
        chat.messages.enter,
        "Chat",
        "Rooms, who is in them, what was said: messages with types over one endpoint.",
        name="chat",
        url_name="endpoint",
        has_replies=False,
        page=chat.views.page,
        more_source=(
            chat.messages.say,
            chat.forms.LineForm,
            example.endpoint.SiteEndpoint,
        ),
    ),
    Example(
        routines.messages.set_playback,
        "Routines",
        "One page plays, and all others follow in time, however slow their lines are.",
        name="routines",
        url_name="endpoint",
        has_replies=False,
        page=routines.views.page,
        more_source=(routines.messages.follow, routines.messages.clock),
        scripts=("routines/clock.js",),
    ),
    Example(
        views.notifications,
        "Notifications",
        "Add a dam in one window, by form, admin or shell: all others know at once.",
        has_replies=False,
        page=views.dams,
        more_source=(models.announce_dam, views.dams),
    ),
    Example(
        views.topics,
        "Topics",
        "Publish, subscribe and unsubscribe with messages of JSON, across all workers.",
        message='{"action": "publish", "topic": "news", "data": [1, 2, 3]}',
        has_replies=False,
        more_source=(views.obey,),
    ),
    Example(
        views.noise_monitor,
        "Noise monitor",
        "A command publishes a level ten times a second, and pages draw it live.",
        has_replies=False,
        more_source=(noise.publish,),
    ),
    Example(
        tasks.TaskMonitor.as_view(),
        "Task monitor",
        "How far long work is, what it logs, how it ends: live, late and reloaded.",
        has_replies=False,
        page=tasks.tasks,
        more_source=(tasks.import_rows, tasks.tasks),
    ),
]
