"""PythonPolicies: ask the functions of a folder (kybern.policies) about a write.

A plugin of the chain, in front of webhooks. The functions run elsewhere (policies/pool); here it is decided which are
asked, what they are shown, and what their answers mean. A function that fails refuses, unless it says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from kybern.api import codec
from kybern.api.meta_v1 import StatusCause
from kybern.api.resource import Resource
from kybern.apiserver import audit
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import forbidden
from kybern.apiserver.admission.webhooks.versions import Versions
from kybern.apiserver.request import Reader
from kybern.machinery.status import ApiError
from kybern.policies.protocol import NOTHING, Ask, Entry, Outcome, Target, Who, is_something

log = structlog.get_logger(__name__)

_Wanted = tuple[int, Entry, Target]
_Key = tuple[str, str, str]  # operation, resource, subresource


class Generation(Protocol):
    """Policies that stay what they are while a write is asked about."""

    @property
    def entries(self) -> Sequence[Entry]: ...

    async def evaluate(self, ask: Ask) -> Outcome: ...


class Policies(Protocol):
    """pool.WorkerPool, or offline.Inline."""

    def acquire(self) -> Any:
        """A Generation; to be released."""
        ...

    def release(self, generation: Any) -> None: ...


class PythonPolicies:
    """The plugin."""

    name = "PythonPolicies"

    def __init__(self, policies: Policies, versions: Versions, reader: Reader) -> None:
        self._policies = policies
        self._versions = versions
        self._reader = reader
        self._indexed: object = None
        self._index: dict[_Key, tuple[tuple[_Wanted, ...], tuple[_Wanted, ...]]] = {}

    def handles(self, a: Attributes) -> bool:
        return True

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        return self._start(a, judging=False) if a.operation != "DELETE" else None

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        return self._start(a, judging=True)

    def _start(self, a: Attributes, *, judging: bool) -> Awaitable[None] | None:
        generation = self._policies.acquire()
        wanted = self._wanted(generation, a)[judging]
        if not wanted:
            self._policies.release(generation)
            return None
        return self._run(generation, wanted, a, judging)

    async def _run(self, generation: Generation, wanted: Sequence[_Wanted], a: Attributes, judging: bool) -> None:
        try:
            if judging:
                await self._judge(generation, wanted, a)
            else:
                for one in wanted:
                    await self._change(generation, one, a)
        finally:
            self._policies.release(generation)

    def _wanted(self, generation: Generation, a: Attributes) -> tuple[tuple[_Wanted, ...], tuple[_Wanted, ...]]:
        """(those that may change, those that judge) of the write."""
        if self._indexed is not generation:
            self._indexed, self._index = generation, {}
        key = (a.operation, a.group_resource, a.subresource)
        found = self._index.get(key)
        if found is None:
            wanted = [
                (index, entry, target)
                for index, entry in enumerate(generation.entries)
                if a.operation in entry.operations and (target := _target_of(entry, a)) is not None
            ]
            found = self._index[key] = (
                tuple(w for w in wanted if w[1].mayChange),
                tuple(w for w in wanted if not w[1].mayChange),
            )
        return found

    async def _judge(self, generation: Generation, wanted: Sequence[_Wanted], a: Attributes) -> None:
        """Ask all; what any of them has against the write is told together."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(generation, one, a), name=f"policy {one[1].name}") for one in wanted]
        refusals: list[str] = []
        for (_, entry, _), task in zip(wanted, tasks, strict=True):
            outcome = task.result()[0]
            refusals += [f'policy "{entry.name}": {text}' for text in outcome.refusals]
            refusals += self._failed(entry, outcome, a)
        if refusals:
            raise _refused(a, refusals)

    async def _change(self, generation: Generation, one: _Wanted, a: Attributes) -> None:
        entry = one[1]
        outcome, sent, version = await self._ask(generation, one, a)
        failed = self._failed(entry, outcome, a)
        if failed:
            raise _refused(a, failed)
        if not is_something(outcome.object) or bytes(outcome.object) == sent:
            return
        before = codec.encode(a.object)
        try:
            value = msgspec.json.decode(outcome.object)
            await self._versions.prepare_back(a, value, version)
            a.object = self._versions.decode(a, value, version)
        except ValueError as error:
            raise _refused(a, [f'policy "{entry.name}" made an object that is not one: {error}']) from None
        a.wants_round = a.wants_round or codec.encode(a.object) != before

    async def _ask(self, generation: Generation, one: _Wanted, a: Attributes) -> tuple[Outcome, bytes, Resource]:
        """The outcome, the object as it was shown, and in which version."""
        index, entry, target = one
        version = self._version_of(target, a)
        await self._versions.prepare(a, version)
        new = self._versions.encode(a, a.object, version)
        old = self._versions.encode(a, a.old, version)
        shown = new if new is not None else old
        assert shown is not None, "there is an object before or after a write"
        namespace = self._reader.get("namespaces", "", a.namespace) if a.namespace else None
        user = a.user
        ask = Ask(
            policy=index,
            operation=a.operation,
            resource=a.group_resource,
            subresource=a.subresource,
            namespace=a.namespace,
            name=a.name,
            user=Who(user.name, user.uid, user.groups, dict(user.extra)),
            object=msgspec.Raw(shown),
            old=msgspec.Raw(old) if old is not None else NOTHING,
            dryRun=a.dry_run,
            namespaceLabels=namespace.metadata.labels if namespace is not None else {},
        )
        outcome = await generation.evaluate(ask)
        a.warnings += map(_one_line, outcome.warnings)
        for key, value in outcome.annotations.items():
            audit.annotate(f"policy.kybern.io/{entry.name}.{key}", value)
        return outcome, shown, version

    def _version_of(self, target: Target, a: Attributes) -> Resource:
        """The version that the function's annotation names; the stored one if it names none."""
        known = (a.resource, a.as_requested, *self._versions.siblings(a))
        return next((r for r in known if r.api_version == target.apiVersion), a.resource)

    def _failed(self, entry: Entry, outcome: Outcome, a: Attributes) -> list[str]:
        """What a function that did not run to its end means."""
        if not outcome.failure:
            return []
        log.error("a policy failed", policy=entry.name, place=entry.place, error=outcome.failure)
        if entry.failsOpen:
            told = f'policy "{entry.name}" failed and was passed over: {outcome.failure}'
            a.warnings.append(_one_line(told))
            return []
        return [f'policy "{entry.name}" failed: {outcome.failure}']


def _target_of(entry: Entry, a: Attributes) -> Target | None:
    return next(
        (t for t in entry.targets if t.resource in ("*", a.group_resource) and t.subresource == a.subresource), None
    )


def _one_line(text: str) -> str:
    """As a header needs it."""
    return " ".join(text.split())


def _refused(a: Attributes, texts: Sequence[str]) -> ApiError:
    error = forbidden(a, "; ".join(texts))
    assert error.status.details is not None
    error.status.details.causes = [StatusCause(reason="PolicyRefused", message=text) for text in texts]
    return error
