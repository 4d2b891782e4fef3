"""What the server does of its own accord: bookmarks, forgetting old events, its own Service.

Started by server, one task each; every loop goes on after a fault, which is logged.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from kybern.api import codec, scalars
from kybern.api.core_v1 import EndpointAddress, EndpointPort, Endpoints, EndpointSubset, Event, Service, ServicePort
from kybern.api.discovery_v1 import Endpoint, EndpointSlice
from kybern.api.discovery_v1 import EndpointPort as SlicePort
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.networking_v1 import ServiceCIDR
from kybern.api.part import part_of
from kybern.apiserver.registry.registry import Objects
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.storage.interface import StoreError

log = structlog.get_logger(__name__)

BOOKMARK_SECONDS = 60.0
EVENT_SWEEP_SECONDS = 60.0
SERVICE_SECONDS = 10.0
ADDRESS_SECONDS = 1.0


async def forever(name: str, seconds: float, clock: Clock, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` every so many seconds, come what may."""
    while True:
        await clock.sleep(seconds)
        await attempt(name, work)


async def attempt(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` once; a fault is logged and ends nothing, the next round may do better."""
    try:
        await work()
    except (ApiError, StoreError, OSError) as error:
        log.warning("upkeep failed", task=name, error=str(error))
    except Exception:  # a supervised loop: a fault in upkeep must not end the server
        log.exception("upkeep failed", task=name)


class EventSweeper:
    """Delete events that nobody added to for `ttl` seconds."""

    def __init__(self, objects: Objects, clock: Clock, ttl: float) -> None:
        self._objects = objects
        self._clock = clock
        self._ttl = datetime.timedelta(seconds=ttl)

    async def __call__(self) -> None:
        oldest = scalars.render_time(self._clock.now() - self._ttl)
        # Of each event its times are read and nothing is kept: there may be very many.
        for number, entry in enumerate(list(self._objects.stores["events"].cache.entries())):
            if (_last_seen(entry) or oldest) < oldest:
                try:
                    await self._objects.delete("events", entry.namespace, entry.name)
                except ApiError as error:
                    if not error.is_not_found:
                        raise
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)


_EVENTS_AT_ONCE = 128
_Times = part_of(Event, ("series.lastObservedTime", "lastTimestamp", "eventTime", "metadata.creationTimestamp"))


def _last_seen(entry: Entry) -> str:
    """RFC 3339 texts in UTC compare as the times they tell."""
    try:
        event: Any = codec.decode(_Times, entry.value)
    except msgspec.DecodeError:
        event = entry.decode()  # nulls of another server
    series = event.series.lastObservedTime if event.series is not None else None
    return max(
        str(t)[:19] + "Z" for t in (series, event.lastTimestamp, event.eventTime, event.metadata.creationTimestamp) if t
    )


class OwnService:
    """Keep the Service `default/kubernetes`, its endpoints and the service range: how pods find the API."""

    def __init__(self, objects: Objects, service_cidr: str, address: str, port: int) -> None:
        self._objects = objects
        self._service_cidr = service_cidr
        self._service_ip = str(next(ipaddress.ip_network(service_cidr).hosts()))
        self._address = address
        self._port = port

    async def __call__(self) -> None:
        if self._objects.get("servicecidrs.networking.k8s.io", "", "kubernetes") is None:
            # The range of --service-cluster-ip-range, as an object that people and controllers see.
            cidr = ServiceCIDR(metadata=ObjectMeta(name="kubernetes"))
            cidr.spec.cidrs = [self._service_cidr]
            await self._objects.create("servicecidrs.networking.k8s.io", cidr)
        await self._ensure("services", self._service())
        await self._ensure("endpoints", self._endpoints())
        await self._ensure("endpointslices.discovery.k8s.io", self._slice())

    async def _ensure(self, resource: str, wanted: Any) -> None:
        current = self._objects.get(resource, "default", "kubernetes")
        if current is None:
            await self._objects.create(resource, wanted)
            return
        if resource == "endpoints":
            differs = current.subsets != wanted.subsets
        elif resource == "services":
            differs = [p.port for p in current.spec.ports] != [443]
        else:
            differs = current.endpoints != wanted.endpoints or current.ports != wanted.ports
        if not differs:
            return
        changed = codec.clone(current)
        for field in ("subsets", "endpoints", "ports"):
            if hasattr(wanted, field):
                setattr(changed, field, getattr(wanted, field))
        if resource == "services":
            changed.spec.ports = wanted.spec.ports
        await self._objects.update(resource, changed)

    def _meta(self, labels: dict[str, str]) -> ObjectMeta:
        return ObjectMeta(name="kubernetes", namespace="default", labels=labels)

    def _service(self) -> Service:
        service = Service(metadata=self._meta({"component": "apiserver", "provider": "kubernetes"}))
        service.spec.clusterIP = self._service_ip
        service.spec.clusterIPs = [self._service_ip]
        service.spec.ipFamilies = ["IPv4"]
        service.spec.ipFamilyPolicy = "SingleStack"
        service.spec.type = "ClusterIP"
        service.spec.ports = [ServicePort(name="https", port=443, protocol="TCP", targetPort=self._port)]
        return service

    def _endpoints(self) -> Endpoints:
        subset = EndpointSubset(
            addresses=[EndpointAddress(ip=self._address)],
            ports=[EndpointPort(name="https", port=self._port, protocol="TCP")],
        )
        meta = self._meta({"endpointslice.kubernetes.io/skip-mirror": "true"})
        return Endpoints(metadata=meta, subsets=[subset])

    def _slice(self) -> EndpointSlice:
        endpoint = Endpoint(addresses=[self._address])
        endpoint.conditions.ready = True
        return EndpointSlice(
            metadata=self._meta({"kubernetes.io/service-name": "kubernetes"}),
            addressType="IPv4",
            endpoints=[endpoint],
            ports=[SlicePort(name="https", port=self._port, protocol="TCP")],
        )
