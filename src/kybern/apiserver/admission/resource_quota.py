"""ResourceQuota: a namespace takes no more than its quotas allow; what a write takes is written down before it is made.

Writes of one namespace that come together are judged together: the first to arrive leads, judges all who wait, one
after the other against a copy of the quotas, and updates each changed quota once. A conflict (the quota controller
wrote) means judging anew. What was reserved for a write that fails later is freed by the controller's next count.
Source: "Resource Quotas" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from kybern.api import codec
from kybern.api.core_v1 import Pod, ResourceQuota
from kybern.api.resource_v1 import ResourceClaim
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader, Writer
from kybern.machinery import quantity, usage
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.machinery.usage import Amounts

RESOURCE = "resourcequotas"
_TRIES = 8
_PAUSE = 0.005  # seconds, doubled at each try: the other writer's change is on its way to our cache
# Kinds whose updates can take more, or come into the scope of another quota; all others take something only when they
# are made.
_GROWING = frozenset({"pods", "services", "persistentvolumeclaims", "pods/resize"})


@dataclass(slots=True)
class _Waiting:
    """One write that waits for its verdict."""

    attributes: Attributes
    taken: Amounts  # what it would add, > 0
    verdict: asyncio.Future[bool]  # True: go on; False: nobody decided, ask again; or the refusal


class ResourceQuotaAdmission(Rule):
    """Last of the chain: nothing refuses a write after its share is reserved. Costs nothing without quotas."""

    name: str = "ResourceQuota"

    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._queues: dict[str, deque[_Waiting]] = {}

    def handles(self, a: Attributes) -> bool:
        if not a.resource.namespaced:
            return False
        if a.operation == "CREATE":
            return not a.subresource
        target = f"{a.group_resource}/{a.subresource}" if a.subresource else a.group_resource
        return a.operation == "UPDATE" and target in _GROWING

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        quotas = self._reader.list(RESOURCE, a.namespace)
        if not quotas:
            return None
        taken = taken_by(a)
        if isinstance(a.object, ResourceClaim):
            taken |= self._extended(a.object)
        if not any(_share(q, a, taken) is not None for q in quotas):
            return None
        if a.dry_run:
            self._judge(a, taken, {q.metadata.name: q for q in quotas})
            return None
        return self._reserve(a, taken)

    def _extended(self, claim: ResourceClaim) -> Amounts:
        def name_of(name: str) -> str | None:
            found = self._reader.get("deviceclasses.resource.k8s.io", "", name)
            return found.spec.extendedResourceName if found is not None else None

        def is_there(name: str, uid: str) -> bool:
            pod = self._reader.get("pods", claim.metadata.namespace, name)
            return pod is not None and pod.metadata.uid == uid

        return usage.extended_usage(claim, name_of, is_there)

    async def _reserve(self, a: Attributes, taken: Amounts) -> None:
        while True:
            waiting = _Waiting(a, taken, asyncio.get_running_loop().create_future())
            queue = self._queues.get(a.namespace)
            if queue is None:
                await self._lead(a.namespace, waiting)
                return
            queue.append(waiting)
            if await waiting.verdict:
                return

    async def _lead(self, namespace: str, first: _Waiting) -> None:
        queue = self._queues[namespace] = deque([first])
        batch: list[_Waiting] = []
        try:
            while queue:
                batch = list(queue)
                queue.clear()
                await self._settle(namespace, batch)
        finally:
            del self._queues[namespace]
            # Only when this request was given up, or the store failed: the others try again by themselves.
            for other in (*batch, *queue):
                if not other.verdict.done():
                    other.verdict.set_result(False)
        await first.verdict

    async def _settle(self, namespace: str, batch: list[_Waiting]) -> None:
        """Give everybody in the batch a verdict."""
        pause = _PAUSE
        open_names: set[str] | None = None  # quotas still to be reserved in; None: all
        for _ in range(_TRIES):
            quotas = {q.metadata.name: q for q in self._reader.list(RESOURCE, namespace)}
            if open_names is not None:
                quotas = {name: q for name, q in quotas.items() if name in open_names}
            changed: dict[str, ResourceQuota] = {}
            for one in [w for w in batch if not w.verdict.done()]:
                try:
                    changed |= self._judge(one.attributes, one.taken, quotas | changed)
                except ApiError as error:
                    _refuse(one, error)
            open_names = await self._write(changed)
            if not open_names:
                break
            await self._clock.sleep(pause)
            pause *= 2
        for one in batch:
            if not one.verdict.done():
                if open_names:
                    why = "the quota changes too fast, please try again"
                    _refuse(one, ApiError.conflict("", RESOURCE, min(open_names), why))
                else:
                    one.verdict.set_result(True)

    async def _write(self, changed: Mapping[str, ResourceQuota]) -> set[str]:
        """The quotas that somebody else has written meanwhile."""
        missed = set()
        for name, quota in changed.items():
            try:
                await self._writer.update(RESOURCE, quota)
            except ApiError as error:
                if not (error.is_conflict or error.is_not_found):
                    raise
                missed.add(name)
        return missed

    def _judge(self, a: Attributes, taken: Amounts, quotas: Mapping[str, ResourceQuota]) -> dict[str, ResourceQuota]:
        """The quotas with the write's share added. Raises forbidden, naming the first quota that is in the way."""
        changed = {}
        for name, quota in sorted(quotas.items()):
            share = _share(quota, a, taken)
            if share is None:
                continue
            if isinstance(a.object, Pod):
                unsaid = usage.missing(a.object, quota.status.hard)
                if unsaid:
                    shown = "; ".join(f"{r} for: {','.join(unsaid[r])}" for r in sorted(unsaid))
                    raise forbidden(a, f"failed quota: {name}: must specify {shown}")
            after = _with(quota, share)
            exceeded = _exceeded(quota, after, share)
            if exceeded:
                raise forbidden(a, _render_excess(quota, share, exceeded))
            changed[name] = after
        return changed


def taken_by(a: Attributes) -> Amounts:
    """What a write adds to what its namespace takes: names with a positive amount."""
    if a.old is None:
        return _whole(a)
    before = usage.usage(a.group_resource, a.old)
    grown = ((name, amount - before.get(name, 0)) for name, amount in _whole(a).items())
    return {name: amount for name, amount in grown if amount > 0}


def _whole(a: Attributes) -> Amounts:
    return {name: amount for name, amount in usage.usage(a.group_resource, a.object).items() if amount > 0}


def _share(quota: ResourceQuota, a: Attributes, taken: Amounts) -> Amounts | None:
    """What a write takes of one quota: what it adds, and all of an object that comes into the quota's scope with it.

    None where the quota has nothing to say.
    """
    if not usage.matches_scopes(quota.spec, a.object):
        return None
    is_new = a.old is None or not usage.matches_scopes(quota.spec, a.old)
    share = _whole(a) if is_new and a.old is not None else taken
    hard = quota.status.hard
    if any(name in hard for name in share):
        return share
    # Containers that say nothing take nothing, and must be told to.
    is_judged = is_new or a.subresource == "resize"
    return share if is_judged and isinstance(a.object, Pod) and usage.missing(a.object, hard) else None


def _with(quota: ResourceQuota, taken: Amounts) -> ResourceQuota:
    copy = codec.clone(quota)
    used = copy.status.used
    for name in quota.status.hard:
        if name in taken:
            used[name] = usage.render(name, quantity.nano(used.get(name, "0")) + taken[name])
    return copy


def _exceeded(before: ResourceQuota, after: ResourceQuota, taken: Amounts) -> list[str]:
    hard = before.status.hard
    names = sorted(n for n in taken if n in hard)
    return [n for n in names if quantity.compare(after.status.used[n], hard[n]) > 0]


def _render_excess(quota: ResourceQuota, taken: Amounts, exceeded: list[str]) -> str:
    requested = ",".join(f"{n}={usage.render(n, taken[n])}" for n in exceeded)
    used = ",".join(f"{n}={quota.status.used.get(n, '0')}" for n in exceeded)
    limited = ",".join(f"{n}={quota.status.hard[n]}" for n in exceeded)
    return f"exceeded quota: {quota.metadata.name}, requested: {requested}, used: {used}, limited: {limited}"


def _refuse(waiting: _Waiting, error: ApiError) -> None:
    if not waiting.verdict.done():
        waiting.verdict.set_exception(error)
        waiting.verdict.exception()  # seen, also where nobody waits any more
