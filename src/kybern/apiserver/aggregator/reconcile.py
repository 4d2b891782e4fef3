"""The loop behind aggregation: keeps APIServices of local groups, asks other servers how they are and what they offer.

Started by server; every round is level-triggered. Reads APIServices, Services, EndpointSlices and definitions of custom
resources from the watch cache, writes APIServices, fills `remotes` and `offered`, which routes and discovery read.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from kybern.api import scalars
from kybern.api.apiregistration_v1 import APIService
from kybern.apiserver.aggregator import availability, discovery, local
from kybern.apiserver.aggregator import remote as remotes
from kybern.apiserver.aggregator.availability import Unreachable, Verdict
from kybern.apiserver.aggregator.backend import SLICES, Backends, Options, Wire
from kybern.apiserver.aggregator.discovery import Offered
from kybern.apiserver.aggregator.remote import RESOURCE, GroupVersion, Remote
from kybern.apiserver.openapi import merge
from kybern.apiserver.registry.registry import Objects
from kybern.client.http import Disconnected
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

log = structlog.get_logger(__name__)

# Between two rounds; a round in which nothing has changed costs a few comparisons.
ROUND_SECONDS = 1.0
_CHECK_SECONDS = 30.0  # a server that is well is asked again after
_RETRY_SECONDS = 2.0  # one that is not
_DISCOVERY_SECONDS = 60.0
_ASK_SECONDS = 5.0
_TRIES = 3
_LATE = "context deadline exceeded"
_AT_ONCE = 16
_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_WATCHED = (RESOURCE, "services", SLICES, _DEFINITIONS)


@dataclass(slots=True)
class _Known:
    """What was found out about one remote, and when to ask again (seconds of the clock)."""

    remote: Remote
    ask_at: float = 0.0
    discover_at: float = 0.0
    verdict: Verdict | None = None
    openapi_v3: str = ""
    openapi_v2: discovery.Document | None = None
    openapi_tag: str = ""  # of the v2 document


class Aggregator:
    """The state of aggregation; `await aggregator()` is one round."""

    def __init__(
        self,
        objects: Objects,
        clock: Clock,
        rng: random.Random,
        options: Options,
        built_in: Callable[[], Iterable[GroupVersion]],
        wire: Wire | None = None,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._built_in = built_in
        self._backends = Backends(objects, options, rng, wire)
        self._known: dict[str, _Known] = {}
        self._seen: tuple[int, ...] = ()
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self.remotes: dict[GroupVersion, Remote] = {}
        self.offered = Offered()
        self._remotes_at = -1

    @property
    def backends(self) -> Backends:
        return self._backends

    def current(self) -> dict[GroupVersion, Remote]:
        """The remotes as the APIServices are at this moment."""
        version = self._objects.version(RESOURCE)
        if version != self._remotes_at:
            self._remotes_at = version
            found = [remotes.remote_of(obj) for obj in self._objects.list(RESOURCE)]
            self.remotes = {r.group_version: r for r in found if r is not None}
        return self.remotes

    async def start(self) -> None:
        """Register what is served here, once: people may delete it afterwards."""
        existing = {obj.metadata.name: obj for obj in self._objects.list(RESOURCE)}
        await self._apply(local.plan_built_in(self._built_in(), existing))
        await self()

    async def __call__(self) -> None:
        """One round."""
        seen = tuple(self._objects.version(resource) for resource in _WATCHED)
        now = self._clock.monotonic()
        is_due = any(now >= min(k.ask_at, k.discover_at) for k in self._known.values())
        if seen == self._seen and not is_due:
            return
        if seen != self._seen:
            existing = {obj.metadata.name: obj for obj in self._objects.list(RESOURCE)}
            await self._apply(local.plan_custom(self._objects.list(_DEFINITIONS), existing))
        objects: list[APIService] = self._objects.list(RESOURCE)
        has_moved = seen[1:3] != self._seen[1:3]
        self._seen = seen
        self._meet(objects, has_moved)
        async with asyncio.TaskGroup() as tasks:
            for obj in objects:
                if obj.metadata.name in self._known or self._plan(obj, availability.LOCAL) is not None:
                    tasks.create_task(self._check(obj), name=f"check {obj.metadata.name}")
        self.current()
        await self._discover()

    def _meet(self, objects: Iterable[APIService], has_moved: bool) -> None:
        """Who is new, has changed or has gone. `has_moved`: Services or endpoints changed, so ask again."""
        present: dict[str, _Known] = {}
        for obj in objects:
            remote = remotes.remote_of(obj)
            if remote is None:
                continue
            known = self._known.get(remote.name)
            # Being available is what is found out here.
            if known is None or _where(known.remote) != _where(remote):
                known = _Known(remote)
            elif has_moved:
                known.ask_at = 0.0
            known.remote = remote
            present[remote.name] = known
        self._known = present

    async def _apply(self, plan: local.Plan) -> None:
        writes = [
            *(self._objects.create(RESOURCE, obj) for obj in plan.create),
            *(self._objects.update(RESOURCE, obj) for obj in plan.update),
            *(self._objects.delete(RESOURCE, "", name) for name in plan.delete),
        ]
        async with asyncio.TaskGroup() as tasks:
            for number, write in enumerate(writes):
                tasks.create_task(self._attempt(write), name=f"APIService {number}")

    async def _attempt(self, writing: Any) -> None:
        """Another server, or a person, may have been faster: the next round sees what they did."""
        try:
            await writing
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found or error.is_already_exists):
                raise

    # -- availability --------------------------------------------------------------------------------------------

    def _plan(self, obj: APIService, verdict: Verdict) -> APIService | None:
        return availability.plan_condition(obj, verdict, scalars.render_time(self._clock.now()))

    async def _check(self, obj: APIService) -> None:
        known = self._known.get(obj.metadata.name)
        verdict = availability.LOCAL if known is None else await self._verdict(known)
        changed = self._plan(obj, verdict)
        if changed is None:
            return
        await self._attempt(self._objects.update(RESOURCE, changed))
        if known is not None:
            known.remote = dataclasses.replace(known.remote, is_available=verdict.is_available)
            known.discover_at = 0.0

    async def _verdict(self, known: _Known) -> Verdict:
        now = self._clock.monotonic()
        if known.verdict is not None and now < known.ask_at:
            return known.verdict
        remote = known.remote
        service = self._objects.get("services", remote.namespace, remote.service)
        verdict = availability.judge(remote, service, self._objects.list(SLICES, remote.namespace))
        if verdict is None:
            async with self._limit:
                verdict = await self._ask(remote)
        known.verdict = verdict
        known.ask_at = self._clock.monotonic() + (_CHECK_SECONDS if verdict.is_available else _RETRY_SECONDS)
        return verdict

    async def _ask(self, remote: Remote) -> Verdict:
        """One good answer will do: of several endpoints a bad one does not count."""
        fault = ""
        for _ in range(_TRIES):
            fault = await self._ask_once(remote)
            if not fault:
                return availability.PASSED
            if fault.endswith(_LATE):
                break
        return availability.failed(fault)

    async def _ask_once(self, remote: Remote) -> str:
        """What is wrong, or nothing."""
        url = ""
        try:
            url = self._backends.locate(remote, remote.path).url
            async with asyncio.timeout(_ASK_SECONDS):
                url, answer = await self._backends.fetch(remote, remote.path)
        except Unreachable as error:
            return str(error)
        except TimeoutError:
            return f'failing or missing response from {url}: Get "{url}": {_LATE}'
        except (Disconnected, UnicodeError, ValueError) as error:
            return f'failing or missing response from {url}: Get "{url}": {error}'
        if not 200 <= answer.status < 400:
            return f"failing or missing response from {url}: bad status from {url}: {answer.status}"
        return ""

    # -- discovery -----------------------------------------------------------------------------------------------

    async def _discover(self) -> None:
        """What remotes offer; the documents are replaced where anything has changed."""
        versions = dict(self.offered.versions)
        now = self._clock.monotonic()
        for known in self._known.values():
            remote = known.remote
            key = remote.group_version
            if not remote.is_available:
                versions[key] = discovery.stale(remote.version)
                known.discover_at = math.inf  # until it is well
            elif now >= known.discover_at or key not in versions:
                known.discover_at = now + _DISCOVERY_SECONDS
                async with self._limit:
                    versions[key] = await self._offer_of(remote)
                    await self._read_openapi(known)
        present = frozenset(self.remotes)
        offered = Offered(
            remotes.order(self._objects.list(RESOURCE)),
            present,
            {key: value for key, value in versions.items() if key in present},
            {k.remote.group_version: k.openapi_v3 for k in self._known.values() if k.openapi_v3},
            {k.remote.group_version: k.openapi_v2 for k in self._known.values() if k.openapi_v2 is not None},
        )
        if offered != self.offered:
            self.offered = offered

    async def _offer_of(self, remote: Remote) -> discovery.Document:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                _, answer = await self._backends.fetch(remote, "/apis", discovery.ACCEPT_AGGREGATED)
                if answer.status == 200 and "as=apigroupdiscoverylist" in answer.content_type.lower():
                    found = discovery.read_aggregated(answer.body, remote.group_version)
                    return found if found is not None else discovery.stale(remote.version)
                _, answer = await self._backends.fetch(remote, remote.path, "application/json")
                if answer.status == 200:
                    return discovery.read_legacy(answer.body, remote.group_version)
        except (TimeoutError, Unreachable, Disconnected, ValueError, KeyError, AttributeError, TypeError) as error:
            log.warning("discovery of an API server failed", api_service=remote.name, error=str(error))
        return discovery.stale(remote.version)

    async def _read_openapi(self, known: _Known) -> None:
        """Its documents, kept as they were where they cannot be had: schemas of a server that is away still hold."""
        remote = known.remote
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                _, answer = await self._backends.fetch(remote, "/openapi/v3", "application/json")
                known.openapi_v3 = ""
                if answer.status == 200:
                    known.openapi_v3 = discovery.read_openapi_index(answer.body, remote.group_version)
                _, answer = await self._backends.fetch(remote, "/openapi/v2", "application/json", known.openapi_tag)
            if answer.status == 200:
                document = msgspec.json.decode(answer.body)
                known.openapi_v2, known.openapi_tag = merge.part_of(document, remote.path), answer.tag
        except (TimeoutError, Unreachable, Disconnected, ValueError, AttributeError, RecursionError) as error:
            log.warning("reading the OpenAPI of an API server failed", api_service=remote.name, error=str(error))


def _where(remote: Remote) -> Remote:
    return dataclasses.replace(remote, is_available=False)
