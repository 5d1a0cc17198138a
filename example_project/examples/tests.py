"""Tests of the WebSocket views: with Django's own test client and no server.

``python manage.py test`` runs them.
"""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.test import TestCase
from django.urls import reverse

from dwebsocket.testing import ClientWebSocket

from .models import Dam


class EchoTests(TestCase):
    def test_echo(self) -> None:
        with self.client.websocket_connect(reverse("echo")) as websocket:
            websocket.send("hello")
            self.assertEqual(websocket.wait(), "hello")
            websocket.send(b"\x00\xff")
            self.assertEqual(websocket.wait(), b"\x00\xff")

    def test_echo_refuses_more_than_16_mib(self) -> None:
        with self.client.websocket_connect(reverse("echo")) as websocket:
            websocket.send(bytes(16 * 1024 * 1024 + 1))
            self.assertIsNone(websocket.wait())
            self.assertEqual(websocket.close_code, 1009)

    def test_echo_once_closes(self) -> None:
        with self.client.websocket_connect(reverse("echo-once")) as websocket:
            websocket.send("only one")
            self.assertEqual(list(websocket), ["only one"])
            self.assertEqual(websocket.close_code, 1000)

    def test_foreign_pages_are_refused(self) -> None:
        websocket = self.client.websocket_connect(
            reverse("echo"), headers={"Origin": "https://evil.example"}
        )
        self.assertContains(websocket.response, "origin", status_code=403)


class LowerTests(TestCase):
    def test_websocket(self) -> None:
        with self.client.websocket_connect(reverse("lower")) as websocket:
            websocket.send("LOUD")
            self.assertEqual(websocket.wait(), "loud")

    def test_http(self) -> None:
        response = self.client.get(reverse("lower"), {"message": "LOUD"})
        self.assertEqual(response.content, b"loud")


class BearerTokenTests(TestCase):
    def test_a_token_is_needed(self) -> None:
        websocket = self.client.websocket_connect(reverse("bearer-token"))
        self.assertEqual(websocket.response.status_code, 401)
        self.assertEqual(self.client.get(reverse("new-token")).status_code, 403)

    def test_a_token_suffices(self) -> None:
        self.client.force_login(get_user_model().objects.create_user("ann"))
        token = self.client.get(reverse("new-token")).json()["token"]
        self.client.logout()
        with self.client.websocket_connect(
            reverse("bearer-token"), headers={"Authorization": f"Bearer {token}"}
        ) as websocket:
            self.assertEqual(websocket.wait(), "Hello ann, by your token")


class MembersTests(TestCase):
    def test_strangers_are_sent_to_the_login(self) -> None:
        websocket = self.client.websocket_connect(reverse("members"))
        self.assertRedirects(websocket.response, "/login/?next=/members/")

    def test_members_are_welcome(self) -> None:
        user = get_user_model().objects.create_user("ann")
        self.client.force_login(user)
        with self.client.websocket_connect(reverse("members")) as websocket:
            self.assertEqual(websocket.wait(), "Hello ann")
            websocket.send("hi")
            self.assertEqual(websocket.wait(), "ann said hi")


class NotificationsTests(TestCase):
    def test_a_new_dam_is_announced(self) -> None:
        with self.client.websocket_connect(reverse("notifications")) as websocket:
            self.assertEqual(websocket.wait_json(), {"dams": [], "count": 0})
            with self.captureOnCommitCallbacks(execute=True):
                Dam.objects.create(name="Itaipú", river="Paraná", height=196)
                websocket.assert_no_message()
            news = websocket.wait_json()
            self.assertEqual([dam["name"] for dam in news["dams"]], ["Itaipú"])
            self.assertEqual(news["count"], 1)


class TopicsTests(TestCase):
    def test_topics_reach_those_who_have_subscribed(self) -> None:
        news = {"action": "publish", "topic": "news", "data": 1}
        with (
            self.client.websocket_connect(reverse("topics")) as ann,
            self.client.websocket_connect(reverse("topics")) as bob,
        ):
            ann.send_json({"action": "subscribe", "topic": "news"})
            self.assertEqual(ann.wait_json()["action"], "subscribe")
            bob.send_json(news)
            self.assertEqual(ann.wait_json(), news)
            bob.assert_no_message()


class CardsTests(TestCase):
    def test_cards_tell_how_many_windows_are_open(self) -> None:
        with self.client.websocket_connect(reverse("cards")) as cards:
            texts = self.wait_for_cards(cards)
            self.assertNotIn("echo", texts)
            self.assertEqual(texts["notifications"], "0 dams")
            with self.client.websocket_connect(
                reverse("echo"), headers={"Origin": "http://testserver"}
            ):
                self.assertEqual(self.wait_for_cards(cards)["echo"], "1 window")

    def wait_for_cards(self, websocket: ClientWebSocket) -> dict[str, str]:
        while "cards" not in (news := websocket.wait_json()):
            pass  # the level of noise
        texts: dict[str, str] = news["cards"]
        return texts
