"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: ask the webhooks that want to be asked about a write.

Plugins of the chain, the last of their halves before the quota. Mutating ones are asked one after the other, each
seeing what those before it made; validating ones all at once. Nothing is awaited when nobody wants to be asked.
Source: "Dynamic Admission Control" in the Kubernetes documentation; messages as kube-apiserver's.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from kybern.api import codec
from kybern.api.meta_v1 import StatusCause
from kybern.api.resource import Resource
from kybern.apiserver import audit
from kybern.apiserver.admission import Attributes, matching
from kybern.apiserver.admission.expressions import Sight
from kybern.apiserver.admission.rule import forbidden
from kybern.apiserver.admission.webhooks import answer, configurations, review
from kybern.apiserver.admission.webhooks.configurations import Configurations, Hook
from kybern.apiserver.admission.webhooks.counts import Counts
from kybern.apiserver.admission.webhooks.versions import Versions
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.machinery.merge import errors, json_patch
from kybern.machinery.status import ApiError

log = structlog.get_logger(__name__)

_Wanted = tuple[Hook, Resource]


@dataclass(frozen=True, slots=True)
class Tools:
    """What both plugins work with."""

    reader: Reader
    versions: Versions
    client: WebhookClient
    authorizers: Authorizers
    rng: random.Random
    counts: Counts


class _Webhooks:
    """What both share: which hooks want a write, and one call of one hook."""

    name: str = ""
    _kind = "validating"  # in metrics
    _may_patch = False

    def __init__(self, tools: Tools, resource: str) -> None:
        self._tools = tools
        self._configurations = Configurations(tools.reader, resource)

    def handles(self, a: Attributes) -> bool:
        return a.group_resource not in matching.EXEMPT

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        return None

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        return None

    def _wanted(self, a: Attributes) -> list[_Wanted]:
        """The hooks whose rules name the write, each with the version it wants."""
        hooks = self._configurations.hooks
        if not hooks:
            return []
        siblings = self._tools.versions.siblings(a)
        found = ((hook, hook.matcher.find(a, siblings)) for hook in hooks)
        return [(hook, wanted) for hook, wanted in found if wanted is not None]

    def _is_selected(self, hook: Hook, a: Attributes, wanted: Resource) -> bool:
        """Selectors, then match conditions. Raises ApiError 403 where these cannot be told and that must not be."""
        tools = self._tools
        if not hook.matcher.selects(a, tools.reader):
            return False
        if not hook.conditions:
            return True
        verdict = hook.conditions.evaluate(Sight(a, wanted, tools.reader, tools.authorizers, tools.versions))
        if verdict.errors and not hook.fails_open:
            raise _unmatched(a, verdict.errors)
        return verdict.matches

    async def _asked(self, hook: Hook, a: Attributes, wanted: Resource) -> tuple[answer.Verdict, bytes | None]:
        """`_ask`, counted."""
        counts = self._tools.counts
        began = counts.began()
        try:
            verdict, sent = await self._ask(hook, a, wanted)
        except answer.BadAnswer:
            counts.failed(hook.name, a.operation, self._kind, began, is_open=hook.fails_open)
            raise
        denied = 0 if verdict.allowed else answer.denial(hook.name, verdict.status).code
        counts.answered(hook.name, a.operation, self._kind, began, denied)
        return verdict, sent

    async def _ask(self, hook: Hook, a: Attributes, wanted: Resource) -> tuple[answer.Verdict, bytes | None]:
        """The verdict and the object as it was sent. Raises BadAnswer, or ApiError for what no policy forgives."""
        if a.dry_run and hook.has_side_effects:
            raise ApiError.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        if not hook.review:
            raise answer.BadAnswer("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        tools = self._tools
        try:
            await tools.versions.prepare(a, wanted)
            sent = tools.versions.encode(a, a.object, wanted)
            old = tools.versions.encode(a, a.old, wanted)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _internal(str(error)) from None
        uid = str(uuid.UUID(int=tools.rng.getrandbits(128), version=4))
        body = review.render(a, uid, hook.review, wanted, sent, old)
        try:
            data = await tools.client.call(hook.client, body, hook.timeout, query=f"timeout={hook.timeout}s")
        except CallFailed as error:
            prefix = "could not get REST client: " if error.is_misconfigured else "failed to call webhook: "
            raise answer.BadAnswer(f"{prefix}{error}") from None
        verdict = answer.parse(data, uid, hook.review, may_patch=self._may_patch)
        a.warnings += verdict.warnings
        for key, value in verdict.annotations.items():
            audit.annotate(f"{hook.name}/{key}", value)
        return verdict, sent

    def _forgive(self, hook: Hook, why: answer.BadAnswer) -> None:
        """Go on without the webhook if its failurePolicy says so. Raises ApiError 500."""
        said = f'failed calling webhook "{hook.name}": {why}'
        if not hook.fails_open:
            raise _internal(said)
        log.warning("a webhook failed, its failurePolicy lets the request pass", webhook=hook.name, error=str(why))


class MutatingWebhooks(_Webhooks):
    """Those that may change the object."""

    name = "MutatingAdmissionWebhook"
    _kind = "admit"
    _may_patch = True

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools, configurations.MUTATING)

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        wanted = self._wanted(a)
        return self._go(a, wanted) if wanted else None

    async def _go(self, a: Attributes, wanted: Iterable[_Wanted]) -> None:
        for index, (hook, version) in enumerate(wanted):
            if a.round and not self._is_due_again(hook, a):
                continue
            if not self._is_selected(hook, a, version):
                continue
            try:
                verdict, sent = await self._asked(hook, a, version)
            except answer.BadAnswer as why:
                self._forgive(hook, why)
                self._note(a, index, "failed-open.mutation", hook.name)
                continue
            changed = verdict.allowed and await self._apply(verdict.patch or [], a, sent, version)
            self._note_mutation(hook, a, index, changed, verdict.patch)
            if not verdict.allowed:
                raise answer.denial(hook.name, verdict.status)
            if changed:
                a.wants_round = True
            if hook.reinvokes:
                a.left_behind[_key(hook)] = _bytes_of(a)

    def _is_due_again(self, hook: Hook, a: Attributes) -> bool:
        """In the second round: asked before, wants to be asked again, and the object is not as it left it."""
        left = a.left_behind.get(_key(hook))
        return left is not None and left != _bytes_of(a)

    async def _apply(self, patch: list[Any], a: Attributes, sent: bytes | None, version: Resource) -> bool:
        """Put the patched object into its place; returns whether it differs. Raises ApiError 500."""
        if sent is None or not patch:
            return False
        before = _bytes_of(a)
        try:
            patched = json_patch.apply(msgspec.json.decode(sent), patch)
            await self._tools.versions.prepare_back(a, patched, version)
            a.object = self._tools.versions.decode(a, patched, version)
        except (errors.PatchFailed, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _internal(str(error)) from None
        return before != _bytes_of(a)

    def _note_mutation(self, hook: Hook, a: Attributes, index: int, changed: bool, patch: list[Any] | None) -> None:
        """Annotations of the audit event. Source: "Mutating webhook auditing annotations"."""
        if not audit.is_on():
            return
        told: dict[str, Any] = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        self._note(a, index, "mutation", codec.encode(told).decode())
        if changed:
            told = {**told, "patch": patch, "patchType": "JSONPatch"}
            told.pop("mutated")
            self._note(a, index, "patch", codec.encode(told).decode())

    def _note(self, a: Attributes, index: int, what: str, text: str) -> None:
        audit.annotate(f"{what}.webhook.admission.k8s.io/round_{a.round}_index_{index}", text)


class ValidatingWebhooks(_Webhooks):
    """Those that may only refuse."""

    name = "ValidatingAdmissionWebhook"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools, configurations.VALIDATING)

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        if not self._configurations.hooks:
            return None
        wanted = [(hook, version) for hook, version in self._wanted(a) if self._is_selected(hook, a, version)]
        return self._go(a, wanted) if wanted else None

    async def _go(self, a: Attributes, wanted: list[_Wanted]) -> None:
        """Ask all at once; of several refusals the first in order is told."""
        if len(wanted) == 1:
            refusals = [await self._judge(0, wanted[0], a)]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._judge(index, one, a), name=f"webhook {one[0].name}")
                    for index, one in enumerate(wanted)
                ]
            refusals = [task.result() for task in tasks]
        for refusal in refusals:
            if refusal is not None:
                raise refusal

    async def _judge(self, index: int, one: _Wanted, a: Attributes) -> ApiError | None:
        hook, version = one
        try:
            verdict, _ = await self._asked(hook, a, version)
            return None if verdict.allowed else answer.denial(hook.name, verdict.status)
        except answer.BadAnswer as why:
            try:
                self._forgive(hook, why)
            except ApiError as error:
                return error
            audit.annotate(f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}", hook.name)
            return None
        except ApiError as error:
            return error


def _key(hook: Hook) -> tuple[str, str]:
    return hook.configuration, hook.name


def _bytes_of(a: Attributes) -> bytes:
    """The object as it stands: to see whether it has changed."""
    return codec.encode(a.object)


def _unmatched(a: Attributes, why: tuple[str, ...]) -> ApiError:
    return forbidden(a, why[0] if len(why) == 1 else f"[{', '.join(why)}]")


def _internal(why: str) -> ApiError:
    """500 that says why twice, as upstream does."""
    message = f"Internal error occurred: {why}"
    return ApiError.make(500, "InternalError", message, causes=[StatusCause(message=why)])
