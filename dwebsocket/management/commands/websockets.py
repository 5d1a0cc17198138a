"""``manage.py websockets``: lists the connections of all workers, and closes some."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from dwebsocket.exceptions import GroupError
from dwebsocket.failures import on_one_line
from dwebsocket.groups import Connection, Connections, close_websocket, connections
from dwebsocket.groups.backends import get_backend
from dwebsocket.groups.connections import MAX_LIMIT
from dwebsocket.groups.memory import MemoryBackend

__all__ = ["Command"]

_COLUMNS = ("ID", "USER", "ADDRESS", "OPENED", "SILENT", "IN", "OUT", "PATH", "GROUPS")
_FORMAT = "{:<35} {:<8} {:<15} {:<19} {:>6} {:>8} {:>8} {} {}"


class Command(BaseCommand):
    help = "Lists the open WebSocket connections of all workers, or closes some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", help="of the user with this primary key")
        parser.add_argument("--path", default="", help="whose path begins with this")
        parser.add_argument("--address", help="from this address or network")
        parser.add_argument("--group", help="in this group")
        parser.add_argument(
            "--limit", type=int, default=100, help="at most so many (default: 100)"
        )
        parser.add_argument(
            "--json", action="store_true", help="as one JSON object on each line"
        )
        parser.add_argument(
            "--close", nargs="+", metavar="ID", help="close these, and list nothing"
        )
        parser.add_argument(
            "--code", type=int, default=1000, help="to close with (default: 1000)"
        )
        parser.add_argument("--reason", default="", help="to close with")

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(get_backend("default"), MemoryBackend):
            raise CommandError(
                "The connections of other processes are out of reach of MemoryBackend; "
                "use dwebsocket.groups.redis.RedisBackend in WEBSOCKET_GROUPS."
            )
        try:
            if options["close"]:
                for websocket_id in options["close"]:
                    close_websocket(websocket_id, options["code"], options["reason"])
            else:
                self._list(options)
        except (GroupError, ValueError) as exc:
            raise CommandError(str(exc)) from exc

    def _list(self, options: dict[str, Any]) -> None:
        filters = {name: options[name] for name in ("user", "path", "address", "group")}
        if not options["json"]:
            self.stdout.write(_FORMAT.format(*_COLUMNS))
        count = 0
        for page in _find_pages(filters, options["limit"]):
            for connection in page:
                count += 1
                if options["json"]:
                    row = connection._asdict()
                    self.stdout.write(json.dumps(row, cls=DjangoJSONEncoder))
                else:
                    self.stdout.write(_format(connection))
        self.stderr.write(f"{count} of {page.total} connections")
        if page.missing:
            self.stderr.write(f"{page.missing} processes didn't answer")


def _find_pages(filters: dict[str, Any], limit: int) -> Iterator[Connections]:
    last = None
    while True:
        size = min(limit, MAX_LIMIT)
        page = connections(**filters, after=last, limit=size)
        yield page
        limit -= len(page)
        if not page or len(page) < size or not limit:
            return
        last = page[-1]


def _format(connection: Connection) -> str:
    opened_at = timezone.localtime(connection.opened_at)
    return _FORMAT.format(
        connection.id,
        connection.user or "-",
        connection.address or "-",
        f"{opened_at:%Y-%m-%d %H:%M:%S}",
        f"{connection.silence:.0f}s",
        connection.messages_in,
        connection.messages_out,
        # What a client has sent must not be obeyed by a terminal.
        on_one_line(connection.path),
        " ".join(map(ascii, connection.groups)),
    )
