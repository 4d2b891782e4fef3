"""Keep the kernel in step: collect what changed, plan it, apply it as one transaction.

Fed by informers of Services and EndpointSlices and by the node's view; drives plan, ruleset, nft, conntrack and
health_check. Promises: a change is applied at once when things are quiet, and at most `min_period` seconds after
the one before when busy; after a failure, or when the table is gone, everything is written anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client.informer import Informer
from kybern.machinery.clock import Clock
from kybern.proxy import conntrack, plan
from kybern.proxy.endpoints import Target
from kybern.proxy.health_check import Checked, HealthChecks
from kybern.proxy.metrics import Metrics
from kybern.proxy.nft import table, transaction
from kybern.proxy.nft.run import Nft, NftRefused
from kybern.proxy.ruleset import NOTHING, Frontend, Ruleset, ServiceName, ServicePlan

_OWNER = "owner"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # after failures

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Periods:
    """Seconds."""

    minimum: float = 0.1  # between two transactions
    check: float = 30.0  # between two looks whether the table is still there (kube-proxy: --nftables-sync-period)
    whole: float = 3600.0  # between two times that everything is written


class Sinks(NamedTuple):
    """What is acted on."""

    nft: Nft
    conntrack: conntrack.Forgetter
    health_checks: HealthChecks


class ProxySync:
    """The one writer of the table."""

    def __init__(
        self,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        view: plan.View,
        settings: table.Settings,
        sinks: Sinks,
        clock: Clock,
        metrics: Metrics,
        periods: Periods | None = None,
    ) -> None:
        self._services = services
        self._slices = slices
        self._view = view
        self._nft, self._conntrack, self._health_checks = sinks
        self._clock = clock
        self._metrics = metrics
        self._periods = periods or Periods()
        self._service_networks: tuple[str, ...] = ()
        self._ruleset = Ruleset()
        self._writer = transaction.Writer(settings)
        self._dirty: set[ServiceName] = set()
        self._must_write_whole = True
        self._must_check = False
        self._wake = asyncio.Event()
        self._waiting_since: float | None = None  # a change that the kernel has not got
        self.last_applied: float | None = None  # monotonic; None before the first time
        slices.add_index(_OWNER, _owner_index)
        services.on_change(self._service_changed)
        slices.on_change(self._slice_changed)

    # what changed
    def look_from(self, view: plan.View) -> None:
        """The node itself changed: plan everything again."""
        if view != self._view:
            self._view = view
            self._dirty.update(self._ruleset.plans(), [plan.SERVICE_NETWORKS])
            self._dirty.update(plan.service_name(s) for s in self._services.list())
            self._notice()

    def use_service_networks(self, cidrs: tuple[str, ...]) -> None:
        """The ServiceCIDRs of the cluster, as far as they are known."""
        if cidrs != self._service_networks:
            self._service_networks = cidrs
            self._dirty.add(plan.SERVICE_NETWORKS)
            self._notice()

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        for service in (old, new):
            if service is not None:
                self._dirty.add(plan.service_name(service))
        self._notice()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for piece in (old, new):
            owner = plan.slice_owner(piece) if piece is not None else None
            if owner is not None:
                self._dirty.add(owner)
        self._notice()

    def _notice(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        self._wake.set()

    def is_healthy(self) -> bool:
        """Whether rules were written, and nothing waits for longer than two check periods."""
        if self.last_applied is None:
            return False
        waiting = self._waiting_since
        return waiting is None or self._clock.monotonic() - waiting < 2 * self._periods.check

    # the loop
    async def run(self) -> None:
        """Until cancelled. Failures of nft are logged and tried again."""
        await self._services.wait_synced()
        await self._slices.wait_synced()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(self._periods.check, "check"), name="proxy check ticks")
            tasks.create_task(self._tick(self._periods.whole, "whole"), name="proxy resync ticks")
            self._wake.set()
            pause = _FIRST_PAUSE
            while True:
                await self._wake.wait()
                self._wake.clear()
                started = self._clock.monotonic()
                try:
                    await self._sync()
                    pause = _FIRST_PAUSE
                    rest = self._periods.minimum - (self._clock.monotonic() - started)
                    await self._clock.sleep(max(0.0, rest))
                except (NftRefused, OSError) as error:
                    log.error("could not apply the rules", error=str(error), retry_in=pause)
                    self._metrics.failures.inc()
                    self._must_write_whole = True
                    self._wake.set()
                    await self._clock.sleep(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _tick(self, period: float, what: str) -> None:
        while True:
            await self._clock.sleep(period)
            if what == "whole":
                self._must_write_whole = True
            self._must_check = True
            self._wake.set()

    async def _sync(self) -> None:
        if self._must_check and not self._must_write_whole and not await self._nft.is_present():
            log.warning("the table is gone or was emptied: writing it anew", table=table.TABLE)
            self._must_write_whole = True
        self._must_check = False
        dirty, self._dirty = self._dirty, set()
        waiting, self._waiting_since = self._waiting_since, None
        plans = [(name, self._plan(name)) for name in sorted(dirty)]
        stale: dict[Frontend, frozenset[Target]] = {}
        for name, new in plans:
            stale.update(conntrack.find_changed(self._ruleset.plan_of(name), new))
        delta = self._ruleset.replace(plans)
        started = self._clock.monotonic()
        if not self._must_write_whole and delta.is_empty:
            pass
        else:
            try:
                if self._must_write_whole:
                    stale = await self._write_whole()
                else:
                    for script in self._writer.render_delta(delta):
                        await self._nft.apply(script)
            except BaseException:
                self._must_write_whole = True  # what was rendered may or may not be there
                self._waiting_since = waiting if waiting is not None else started
                raise
            self._metrics.applied(self._clock, started, waiting)
        self.last_applied = self._clock.monotonic()
        self._health_checks.show(
            {
                p.health_check.port: Checked(name, p.health_check.local_endpoints)
                for name, p in self._ruleset.plans().items()
                if p.health_check
            }
        )
        if stale:
            count = await self._conntrack.forget(stale, self._view.node.ips)
            self._metrics.forgotten.inc(count)

    async def _write_whole(self) -> dict[Frontend, frozenset[Target]]:
        existing = await self._nft.existing()
        try:
            await self._nft.apply(self._writer.render_whole(self._ruleset, existing))
        except NftRefused as refused:
            if existing is None:
                raise
            # What is there does not fit (another version's table): start from nothing. Sessions lose their endpoint.
            log.warning("replacing the table", table=table.TABLE, error=str(refused))
            script = transaction.render_cleanup() + self._writer.render_whole(self._ruleset, None)
            await self._nft.apply(script)
        self._must_write_whole = False
        log.info("wrote all rules", services=len(self._ruleset.plans()))
        return {frontend: allowed for p in self._ruleset.plans().values() for frontend, allowed in p.udp.items()}

    def _plan(self, name: ServiceName) -> ServicePlan:
        if name == plan.SERVICE_NETWORKS:
            return plan.plan_service_networks(self._service_networks, self._view)
        service = self._services.get(name.namespace, name.name)
        if service is None:
            return NOTHING
        slices = self._slices.by_index(_OWNER, "/".join(name))
        # The order of arrival must not matter to the plan.
        return plan.plan_service(service, sorted(slices, key=lambda s: s.metadata.name or ""), self._view)


def _owner_index(piece: EndpointSlice) -> tuple[str, ...]:
    owner = plan.slice_owner(piece)
    return ("/".join(owner),) if owner else ()
