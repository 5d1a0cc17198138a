"""Tests of the chat's messages: with Django's own test client and no server."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client, TestCase

from dwebsocket.testing import ClientWebSocket, WebSocketTestMixin

from .models import Line


def ask(websocket: ClientWebSocket, type: str, **content: object) -> Any:
    """Return what answers a request: the content of the reply, or the error."""
    websocket.send_json({"type": type, "content": content, "id": 1})
    while (answer := websocket.wait_json()).get("id") != 1:
        pass  # something that the group is told
    return answer["content"]


class ChatTests(WebSocketTestMixin, TestCase):
    def test_lines_reach_those_in_the_room(self) -> None:
        with (
            self.client.websocket_connect("/ws/") as ann,
            self.client.websocket_connect("/ws/") as bob,
        ):
            ask(ann, "chat.enter", room="lobby")
            ask(bob, "chat.enter", room="gevent")
            self.assertIsNone(ask(ann, "chat.say", room="lobby", text="Hello"))
            bob.assert_no_message()
            (line,) = ask(bob, "chat.enter", room="lobby")["lines"]
            self.assertEqual(line["text"], "Hello")

    def test_all_are_told_who_comes_and_goes(self) -> None:
        user = get_user_model().objects.create_user("bob")
        with self.client.websocket_connect("/ws/") as ann:
            (member,) = ask(ann, "chat.enter", room="lobby")["members"]
            self.assertIn(" ", member["data"]["name"])
            self.client.force_login(user)
            with self.client.websocket_connect("/ws/") as bob:
                members = ask(bob, "chat.enter", room="tea")["members"]
                self.assertEqual(len(members), 2)
                joined = ann.wait_json()
            left = ann.wait_json()
        expected = {"person": f"user {user.pk}", "name": "bob", "room": "tea"}
        self.assertEqual(joined["type"], "group.join")
        self.assertEqual(joined["content"]["data"], expected)
        self.assertEqual(left["type"], "group.leave")
        self.assertEqual(left["content"]["data"], expected)

    def test_windows_of_a_guest_are_one_person(self) -> None:
        client = Client()
        self.assertContains(client.get("/chat/"), client.session["guest"]["name"])
        with (
            client.websocket_connect("/ws/") as first,
            client.websocket_connect("/ws/") as second,
        ):
            ask(first, "chat.enter", room="lobby")
            members = ask(second, "chat.enter", room="lobby")["members"]
        self.assertEqual(len({member["id"] for member in members}), 2)
        self.assertEqual(len({member["data"]["person"] for member in members}), 1)

    def test_forms_check_what_is_sent(self) -> None:
        with self.client.websocket_connect("/ws/") as websocket:
            error = ask(websocket, "chat.enter", room="cellar")
            self.assertIn("room", error["fields"])
            error = ask(websocket, "chat.say", room="lobby", text="Hello")
            self.assertEqual(error["code"], "chat.not_there")
            ask(websocket, "chat.enter", room="lobby")
            for text in " ", "x" * 501:
                error = ask(websocket, "chat.say", room="lobby", text=text)
                self.assertIn("text", error["fields"])
        self.assertFalse(Line.objects.exists())

    def test_whoever_says_too_much_is_held_back(self) -> None:
        with self.client.websocket_connect("/ws/") as websocket:
            ask(websocket, "chat.enter", room="lobby")
            line = {"room": "lobby", "text": "again"}
            errors = [ask(websocket, "chat.say", **line) for _ in range(100)]
            self.assertIn("rate_limited", {error and error["code"] for error in errors})
            self.assertFalse(websocket.is_closed())
