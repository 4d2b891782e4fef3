"""Tokens that another server judges."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.apiserver.authenticate.webhook_tokens import WebhookTokenOptions
from kybern.client.http import Disconnected
from kybern.client.kubeconfig import Access
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock, LoopClock
from kybern.testing.webhooks import FakeWebhooks, Hook

URL = "https://tokens.example/review"
OPTIONS = WebhookTokenOptions(Access(URL), version="v1")
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def judge(review: dict[str, Any]) -> Any:
    if review["spec"]["token"] != "good":
        return {"status": {"authenticated": False, "error": "unknown"}}
    user = {"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"k": ["v"]}}
    return {"status": {"authenticated": True, "user": user, "audiences": review["spec"]["audiences"]}}


async def who(api: Api, text: str) -> Any:
    answer = await api.create(REVIEW, {}, authorization=f"Bearer {text}")
    return answer.json["status"]["userInfo"] if answer.status == 201 else answer.status


def test_the_answer_is_the_user_and_is_remembered_for_a_while() -> None:
    hooks, clock = FakeWebhooks({URL: judge}), FakeClock()

    async def scenario(api: Api) -> None:
        for _ in range(3):
            user = await who(api, "good")
            assert user == {
                "username": "jane",
                "uid": "7",
                "groups": ["devs", "system:authenticated"],
                "extra": {"k": ["v"]},
            }
            assert await who(api, "bad") == 401
        assert len(hooks.seen) == 2
        await clock.advance(121)
        assert (await who(api, "good"))["username"] == "jane"
        assert len(hooks.seen) == 3

    api_server.run(scenario, options={"token_webhook": OPTIONS}, webhooks=hooks, clock=clock)
    review = hooks.seen[0][1]
    assert (review["kind"], review["apiVersion"]) == ("TokenReview", "authentication.k8s.io/v1")
    assert review["spec"]["token"] == "good"


def test_tokens_that_are_known_here_are_not_shown_to_others() -> None:
    hooks = FakeWebhooks({URL: judge})

    async def scenario(api: Api) -> None:
        (await api.get("/api/v1/pods")).ok()

    api_server.run(scenario, options={"token_webhook": OPTIONS}, webhooks=hooks)
    assert hooks.seen == []


def refuse(_: dict[str, Any]) -> Any:
    raise Disconnected("connection refused")


@pytest.mark.parametrize(
    "hook",
    [
        refuse,
        lambda _: b"not json",
        lambda _: b"[" * 100_000,
        lambda _: (500, b"oops"),
        lambda _: (401, b""),
        lambda _: (302, b""),
        lambda _: {},
        lambda _: {"status": {"authenticated": "yes"}},
        lambda _: {"status": {"authenticated": True}},
        lambda _: {"status": {"authenticated": True, "user": {"groups": ["system:masters"]}}},
        lambda _: {"status": {"authenticated": True, "user": {"username": "jane"}, "audiences": ["others"]}},
    ],
)
def test_an_answer_that_says_nothing_lets_nobody_in(hook: Hook) -> None:
    async def scenario(api: Api) -> None:
        assert await who(api, "good") == 401

    hooks = FakeWebhooks({URL: hook})
    api_server.run(scenario, options={"token_webhook": OPTIONS}, webhooks=hooks, clock=LoopClock())
