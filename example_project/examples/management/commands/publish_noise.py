"""`manage.py publish_noise`: what the noise monitor shows."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError

from examples import noise


class Command(BaseCommand):
    """Publishes to the pages of all servers that use the same Redis."""

    help = "Publishes a noise level ten times a second until it is stopped."

    def handle(self, **options: Any) -> None:
        if noise.needs_own_publisher():
            raise CommandError(
                "MemoryBackend reaches the connections of one process, and this one "
                "has none. Either do nothing: a server publishes by itself while the "
                "page is open. Or set REDIS_URL for the server and for this command."
            )
        self.stdout.write("Publishing noise levels; Ctrl-C ends it.")
        try:
            noise.publish()
        except KeyboardInterrupt:
            self.stdout.write("")
