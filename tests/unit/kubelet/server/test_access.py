"""Who asks the kubelet, and what that is called in RBAC."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kybern.api.authentication_v1 import TokenReview, TokenReviewStatus, UserInfo
from kybern.api.authorization_v1 import SubjectAccessReview, SubjectAccessReviewStatus
from kybern.kubelet.server.access import DelegatedAccess, ask_of, caller_of
from kybern.kubelet.server.contract import Ask, Caller
from kybern.pki.certificates import Profile, generate_key, issue
from kybern.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/stats/summary", Ask("get", ("stats",))),
        ("GET", "/metrics/cadvisor", Ask("get", ("metrics",))),
        ("GET", "/logs/x", Ask("get", ("log",))),
        ("POST", "/exec/ns/p/c", Ask("create", ("proxy",))),
        ("GET", "/exec/ns/p/c", Ask("get", ("proxy",))),
        ("GET", "/containerLogs/ns/p/c", Ask("get", ("proxy",))),
        ("GET", "/pods", Ask("get", ("pods", "proxy"))),
        ("GET", "/runningpods/", Ask("get", ("pods", "proxy"))),
        ("GET", "/healthz", Ask("get", ("healthz", "proxy"))),
        ("GET", "/configz", Ask("get", ("configz", "proxy"))),
        ("DELETE", "/anything", Ask("delete", ("proxy",))),
        ("GET", "", Ask("get", ("proxy",))),
    ],
)
def test_paths_are_subresources_of_the_node(method: str, path: str, expected: Ask) -> None:
    assert ask_of(method, path) == expected


def test_a_certificate_names_its_user_and_groups() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    pair = issue(Profile("admin", ("system:masters", "ops"), client=True), None, now, generate_key())
    caller = caller_of(pair.certificate.public_bytes(Encoding.DER))
    assert caller == Caller("admin", groups=("system:masters", "ops", "system:authenticated"))


class FakeReviews:
    """The API server's reviews: `good` is a token, `reader` may get stats."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def create(self, review: Any) -> Any:
        self.asked.append(review)
        if isinstance(review, TokenReview):
            known = review.spec.token == "good"
            review.status = TokenReviewStatus(
                authenticated=known, user=UserInfo(username="reader", groups=["g"]) if known else None
            )
        elif isinstance(review, SubjectAccessReview):
            what = review.spec.resourceAttributes
            assert what is not None
            allowed = (review.spec.user, what.verb, what.subresource, what.name) == ("reader", "get", "stats", "n")
            review.status = SubjectAccessReviewStatus(allowed=allowed)
        return review


def test_answers_are_asked_once_and_again_when_they_are_old() -> None:
    async def main() -> None:
        reviews, clock = FakeReviews(), FakeClock()
        access = DelegatedAccess(reviews, "n", clock)  # type: ignore[arg-type]
        caller = await access.authenticate_token("good")
        assert caller == Caller("reader", groups=("g", "system:authenticated"))
        assert await access.authenticate_token("good") == caller
        assert len(reviews.asked) == 1
        assert await access.authenticate_token("bad") is None
        assert await access.is_allowed(caller, Ask("get", ("pods", "stats")))
        assert await access.is_allowed(caller, Ask("get", ("pods", "stats")))
        assert len(reviews.asked) == 4
        assert not await access.is_allowed(caller, Ask("create", ("stats",)))
        clock.move(301)
        assert await access.is_allowed(caller, Ask("get", ("stats",)))
        assert len(reviews.asked) == 6

    asyncio.run(main())
