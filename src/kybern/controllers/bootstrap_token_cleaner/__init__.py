"""Bootstrap tokens are deleted when they expire. Off unless asked for, as upstream.

Source: "Authenticating with Bootstrap Tokens" in the documentation.
"""

from __future__ import annotations

import datetime

from kybern.api import scalars
from kybern.api.core_v1 import Secret
from kybern.controllers import runtime

NAME = "token-cleaner-controller"
TYPE = "bootstrap.kubernetes.io/token"


def field_of(token: Secret, name: str) -> str:
    """One of the texts that a token consists of; "" if it is missing or no text."""
    try:
        return (token.data.get(name) or b"").decode()
    except UnicodeDecodeError:
        return ""


def expires_in(token: Secret, now: datetime.datetime) -> float | None:
    """Seconds until it is over: 0 if it is, or says something that is no time; None if it never will be."""
    text = field_of(token, "expiration")
    if not text:
        return None
    try:
        return max(0.0, (scalars.parse_time(text) - now).total_seconds())
    except ValueError:
        return 0.0


def is_expired(token: Secret, now: datetime.datetime) -> bool:
    return expires_in(token, now) == 0.0


class TokenCleaner(runtime.Looped):
    """runtime.Controller; keys are those of secrets."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._tokens = context.informers.of(Secret, namespace="kube-system", field_selector=f"type={TYPE}")
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._tokens)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        token = self._tokens.by_key(key)
        left = expires_in(token, self._context.clock.now()) if token is not None else None
        if token is None or left is None or token.metadata.deletionTimestamp is not None:
            return None
        if left > 0:
            return runtime.RequeueAfter(left)
        await self._context.delete(token)
        return None


def build(context: runtime.Context) -> TokenCleaner:
    return TokenCleaner(context)
