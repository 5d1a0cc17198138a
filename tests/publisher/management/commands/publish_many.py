from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tests.publisher.publishing import publish_many


class Command(BaseCommand):
    help = "Sends many messages to many groups."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("publisher")
        parser.add_argument("count", type=int)
        parser.add_argument("groups", type=int)

    def handle(
        self, *, publisher: str, count: int, groups: int, **options: Any
    ) -> None:
        publish_many(publisher, 0, count, groups, "group ")
