"""Ask a server whose token it is (TokenReview), and remember the answer for a while.

The last of chain's token authenticators. Source: "Webhook Token Authentication" in the Kubernetes documentation.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import msgspec

from kybern.apiserver import pending
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, InvalidToken, TokenUser, with_group
from kybern.apiserver.request import User
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.client.kubeconfig import Access
from kybern.machinery.clock import Clock

_CACHED = 4096
_TIMEOUT = 30.0
_TRIES = 3
_PAUSE = 0.5  # seconds before the second try; then half as much again
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class WebhookTokenOptions:
    """Flags --authentication-token-webhook-*."""

    access: Access
    ttl: float = 120.0  # seconds
    version: str = "v1beta1"


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str] | None] | None = None


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User | None = None
    audiences: list[str] | None = None
    error: str = ""


class _Review(msgspec.Struct):
    status: _Status


class WebhookTokens:
    """Every token is asked about: it comes last."""

    def __init__(self, options: WebhookTokenOptions, webhooks: WebhookClient, clock: Clock) -> None:
        self._options = options
        self._webhooks = webhooks
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, TokenUser | str]] = OrderedDict()

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> TokenUser | None:
        key = hashlib.sha256("\0".join((token, *audiences)).encode()).digest()
        known = self._answers.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            found = known[1]
        else:
            found = pending.answer(("token review", key), partial(self._ask, key, token, audiences))
        if isinstance(found, str):
            raise InvalidToken(found)
        return found

    async def _ask(self, key: bytes, token: str, audiences: tuple[str, ...]) -> TokenUser | str:
        body = msgspec.json.encode(
            {
                "kind": "TokenReview",
                "apiVersion": f"authentication.k8s.io/{self._options.version}",
                "metadata": {"creationTimestamp": None},
                "spec": {"token": token, "audiences": audiences},
                "status": {"user": {}},
            }
        )
        pause = _PAUSE
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await self._webhooks.call_server(self._options.access, body, _TIMEOUT, limit=_LIMIT)
                found = _read(answer, audiences)
                break
            except CallFailed as error:
                if attempt == _TRIES or 400 <= (error.status or 0) < 500:
                    return f"webhook: {error}"  # a failure is not an answer: it is not remembered
            await self._clock.sleep(pause)
            pause *= 1.5
        while len(self._answers) >= _CACHED:
            self._answers.popitem(last=False)
        if self._options.ttl > 0:
            self._answers[key] = (self._clock.monotonic() + self._options.ttl, found)
        return found


def _read(answer: bytes, asked: tuple[str, ...]) -> TokenUser | str:
    try:
        status = msgspec.json.decode(answer, type=_Review).status
    except (ValueError, RecursionError) as error:
        return f"webhook: unreadable answer: {error}"
    if not status.authenticated:
        return f"webhook: {status.error or 'not authenticated'}"
    if status.user is None or not status.user.username:
        return "webhook: the answer names no user"
    told = status.audiences or []
    good_for = tuple(a for a in asked if a in told)
    if asked and told and not good_for:
        return f"webhook: the token is for {told}"
    user = status.user
    extra = {k: tuple(v or ()) for k, v in (user.extra or {}).items()}
    return TokenUser(
        User(user.username, user.uid, with_group(tuple(user.groups or ()), AUTHENTICATED), extra), good_for
    )
