"""Tests of the routines' messages: with Django's own test client and no server."""

from __future__ import annotations

import time

from chat.tests import ask
from django.test import TestCase

from dwebsocket.testing import WebSocketTestMixin


class RoutineTests(WebSocketTestMixin, TestCase):
    def test_who_comes_late_gets_what_the_others_have_got(self) -> None:
        with (
            self.client.websocket_connect("/ws/") as ann,
            self.client.websocket_connect("/ws/") as bob,
        ):
            playback = ask(ann, "routines.follow", routine="break")
            self.assertEqual(playback["is_playing"], False)
            content = {"routine": "break", "is_playing": True, "position": 7.5}
            before = time.time()
            ann.send_json({"type": "routines.set", "content": content})
            news = ann.wait_json()
            self.assertEqual(news["type"], "routines.playback")
            self.assertEqual(news["content"], content | news["content"])
            self.assertTrue(before <= news["content"]["time"] <= time.time())
            playback = ask(bob, "routines.follow", routine="break")
            self.assertEqual(playback, playback | news["content"])

    def test_positions_are_within_the_routine(self) -> None:
        with self.client.websocket_connect("/ws/") as websocket:
            for position in (-1, 1e9, "nan", None):
                error = ask(
                    websocket, "routines.set", routine="break", position=position
                )
                self.assertIn("position", error["fields"])

    def test_the_clock_is_told(self) -> None:
        with self.client.websocket_connect("/ws/") as websocket:
            before = time.time()
            told = ask(websocket, "routines.clock")
            self.assertTrue(before <= told <= time.time())
