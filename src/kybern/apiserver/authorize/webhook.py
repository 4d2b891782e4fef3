"""Ask a server whether somebody may do something (SubjectAccessReview), and remember the answer for a while.

One of chain's authorizers. Match conditions say which questions it is asked; what it fails to answer is decided by its
failure policy. Source: "Webhook Mode" and "Using Configuration File for Authorization" in the documentation.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from kybern.apiserver import pending
from kybern.apiserver.authorize import review_body
from kybern.apiserver.authorize.attributes import Attributes, Decision
from kybern.apiserver.request import User
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.client.kubeconfig import Access
from kybern.machinery import cel
from kybern.machinery.cel import types
from kybern.machinery.clock import Clock

_CACHED = 8192
# Longer questions are not worth remembering: clients choose them. kube-apiserver: 10,000 bytes.
_LONGEST_KEPT = 10_000
_TRIES = 3
_PAUSE = 0.5
_LIMIT = 1 << 20

CONDITIONS = cel.Environment({"request": types.DYN})


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """One webhook of the configuration; times in seconds, 0: nothing is remembered."""

    name: str
    access: Access
    authorized_ttl: float = 300.0
    unauthorized_ttl: float = 30.0
    timeout: float = 30.0
    version: str = "v1"
    denies_on_failure: bool = False
    conditions: tuple[str, ...] = ()


class _Status(msgspec.Struct):
    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluationError: str = ""


class _Review(msgspec.Struct):
    status: _Status


class WebhookAuthorizer:
    """Asks only what its conditions let through. Raises Pending for what is not known yet."""

    resolves_rules = False

    def __init__(self, options: WebhookOptions, webhooks: WebhookClient, clock: Clock) -> None:
        """Raises CelError for a condition that is wrong."""
        self.options = options
        self.name = options.name
        self._webhooks = webhooks
        self._clock = clock
        self._conditions = tuple(cel.compile(text, CONDITIONS) for text in options.conditions)
        # What became of the questions it was asked, for the metrics.
        self.results = {"success": 0, "error": 0}
        self._answers: OrderedDict[bytes, tuple[float, Decision]] = OrderedDict()

    def authorize(self, user: User, attributes: Attributes) -> Decision | None:
        spec = review_body.spec_of(user, attributes)
        if self._conditions:
            unsure = self._judge_conditions(spec)
            if unsure is not None:
                return unsure if unsure.reason or unsure.denied else None
        key = msgspec.json.encode(spec)
        known = self._answers.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        decision: Decision = pending.answer(("access review", self.name, key), partial(self._ask, key, spec))
        return decision

    def _judge_conditions(self, spec: dict[str, Any]) -> Decision | None:
        """None: it is to be asked. One condition that is false counts more than others that fail."""
        failure = ""
        for program in self._conditions:
            try:
                if program.evaluate({"request": spec}) is not True:
                    return Decision(False)
            except (cel.EvaluationError, cel.CostExceeded) as error:
                failure = failure or f"match condition {program.text!r}: {error}"
        return self._failed(failure) if failure else None

    def _failed(self, why: str) -> Decision:
        if self.options.denies_on_failure:
            return Decision(False, f"authorizer {self.name}: {why}", self.name, denied=True)
        return Decision(False, f"authorizer {self.name}: {why}")

    async def _ask(self, key: bytes, spec: dict[str, Any]) -> Decision:
        body = msgspec.json.encode(
            {
                "kind": "SubjectAccessReview",
                "apiVersion": f"authorization.k8s.io/{self.options.version}",
                "metadata": {"creationTimestamp": None},
                "spec": spec if self.options.version == "v1" else _old(spec),
                "status": {"allowed": False},
            }
        )
        pause = _PAUSE
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await self._webhooks.call_server(self.options.access, body, self.options.timeout, limit=_LIMIT)
                status = msgspec.json.decode(answer, type=_Review).status
                self.results["success"] += 1
                break
            except CallFailed as error:
                self.results["error"] += 1
                if attempt == _TRIES or 400 <= error.status < 500:
                    return self._failed(str(error))
            except (ValueError, RecursionError) as error:
                self.results["error"] += 1
                return self._failed(f"unreadable answer: {error}")
            await self._clock.sleep(pause)
            pause *= 1.5
        return self._remember(key, status)

    def _remember(self, key: bytes, status: _Status) -> Decision:
        if status.allowed and status.denied:
            return self._failed("the answer both allows and denies")
        if status.allowed:
            decision = Decision(True, status.reason, self.name)
        else:
            decision = Decision(False, status.reason, self.name if status.denied else "", denied=status.denied)
        ttl = self.options.authorized_ttl if status.allowed else self.options.unauthorized_ttl
        if ttl > 0 and len(key) <= _LONGEST_KEPT:
            while len(self._answers) >= _CACHED:
                self._answers.popitem(last=False)
            self._answers[key] = (self._clock.monotonic() + ttl, decision)
        return decision


def _old(spec: dict[str, Any]) -> dict[str, Any]:
    """v1beta1 called the groups `group`."""
    return {("group" if k == "groups" else k): v for k, v in spec.items()}
