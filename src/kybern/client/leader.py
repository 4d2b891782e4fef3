"""Leader election on a Lease: of several candidates at most one works at a time.

Used by process/ of controller manager and scheduler. The rules are upstream's: a candidate takes a lease whose
holder has not renewed for `lease_duration` by the candidate's own clock (clocks are never compared); a leader that
could not renew for `renew_deadline` gives up at once. A lease alone is never trusted: writes carry preconditions.
"""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from kybern.api import codec, scalars
from kybern.api.coordination_v1 import Lease, LeaseSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

JITTER = 1.2

log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """Somebody else leads now, or the lease could not be renewed in time."""


@dataclass(frozen=True, slots=True)
class Election:
    """Which lease, and the times of upstream's flags (seconds)."""

    name: str
    identity: str
    namespace: str = "kube-system"
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as last read, and when its record last changed by our own clock."""

    lease: Lease | None
    changed_at: float


def plan_claim(election: Election, seen: Seen, now: datetime.datetime, monotonic: float) -> Lease | None:
    """The lease to write in order to take or keep it; None while somebody else holds it."""
    stamp = scalars.render_micro_time(now)
    if seen.lease is None:
        meta = ObjectMeta(name=election.name, namespace=election.namespace)
        spec = _spec(election, stamp, stamp, 0)
        return Lease(metadata=meta, spec=spec)
    old = seen.lease.spec
    holder = old.holderIdentity or ""
    lease = codec.clone(seen.lease)
    transitions = old.leaseTransitions or 0
    if holder == election.identity:
        lease.spec = _spec(election, old.acquireTime or stamp, stamp, transitions)
        return lease
    duration = float(old.leaseDurationSeconds or election.lease_duration)
    if holder and monotonic < seen.changed_at + duration:
        return None
    lease.spec = _spec(election, stamp, stamp, transitions + 1)
    return lease


def plan_release(election: Election, lease: Lease, now: datetime.datetime) -> Lease | None:
    """The lease to write on the way out, so that the next leader need not wait."""
    if lease.spec.holderIdentity != election.identity:
        return None
    stamp = scalars.render_micro_time(now)
    lease = codec.clone(lease)
    lease.spec = LeaseSpec(
        holderIdentity="",
        leaseDurationSeconds=1,
        acquireTime=stamp,
        renewTime=stamp,
        leaseTransitions=lease.spec.leaseTransitions,
    )
    return lease


def _spec(election: Election, acquired: scalars.MicroTime, renewed: scalars.MicroTime, transitions: int) -> LeaseSpec:
    return LeaseSpec(
        holderIdentity=election.identity,
        leaseDurationSeconds=int(election.lease_duration),
        acquireTime=acquired,
        renewTime=renewed,
        leaseTransitions=transitions,
    )


class Elector:
    """One candidate."""

    def __init__(self, client: RestClient, clock: Clock, rng: random.Random, election: Election) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._election = election
        self._seen = Seen(None, float("-inf"))
        self._why_lost = ""
        self._held_at = float("-inf")  # our claim was written after this moment
        self.is_leader = False

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait to be leader, then run `work` as long as that lasts. Raises LeadershipLost; releases the lease last."""
        while not await self._try():
            await self._clock.sleep(self._election.retry_period * (1 + JITTER * self._rng.random()))
        self.is_leader = True
        # A process that was stopped for a while must not go on as if it led still.
        self._client.may_write = self.holds
        log.info("became leader", lease=self._election.name, identity=self._election.identity)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(), name="leader:renew")
                await work()
                renewing.cancel()
        except BaseExceptionGroup as group:
            lost, rest = group.split(LeadershipLost)
            if rest is not None or lost is None:
                raise
            raise LeadershipLost(self._why_lost) from None
        finally:
            self.is_leader = False
            await self._release()
            self._client.may_write = None

    def holds(self) -> bool:
        """Whether nobody else can have the lease: by our own clock it has not run out."""
        return self._clock.monotonic() - self._held_at < self._election.lease_duration

    async def _renew(self) -> None:
        last = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._election.retry_period)
            if await self._try():
                last = self._clock.monotonic()
                continue
            holder = self._seen.lease.spec.holderIdentity if self._seen.lease else ""
            if holder and holder != self._election.identity:
                self._why_lost = f"lease {self._election.name} is now held by {holder}"
                raise LeadershipLost(self._why_lost)
            if self._clock.monotonic() - last > self._election.renew_deadline:
                self._why_lost = f"lease {self._election.name} was not renewed in {self._election.renew_deadline} s"
                raise LeadershipLost(self._why_lost)

    async def _try(self) -> bool:
        """Read the lease and claim it. False: somebody else's, or the server could not be asked."""
        election = self._election
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(election.renew_deadline / 2):
                await self._look()
                wanted = plan_claim(election, self._seen, self._clock.now(), self._clock.monotonic())
                if wanted is None:
                    return False
                if wanted.metadata.resourceVersion:
                    stored = await self._client.update(wanted)
                else:
                    stored = await self._client.create(wanted)
        except TimeoutError:
            log.warning("leader election: no answer in time", lease=election.name)
            return False
        except ApiError as error:
            if not (error.is_conflict or error.is_already_exists):
                log.warning("leader election failed", lease=election.name, error=str(error))
            return False
        self._seen = Seen(stored, self._clock.monotonic())
        self._held_at = began
        return True

    async def _look(self) -> None:
        try:
            lease = await self._client.get(Lease, self._election.namespace, self._election.name)
        except ApiError as error:
            if not error.is_not_found:
                raise
            self._seen = Seen(None, self._clock.monotonic())
            return
        if self._seen.lease is None or lease.spec != self._seen.lease.spec:
            self._seen = Seen(lease, self._clock.monotonic())
        else:
            self._seen = Seen(lease, self._seen.changed_at)

    async def _release(self) -> None:
        lease = self._seen.lease
        wanted = plan_release(self._election, lease, self._clock.now()) if lease is not None else None
        if wanted is None:
            return
        try:
            async with asyncio.timeout(self._election.retry_period):
                await self._client.update(wanted)
        except (ApiError, TimeoutError) as error:
            log.warning("could not release the lease", lease=self._election.name, error=str(error))
