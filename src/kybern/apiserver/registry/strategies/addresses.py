"""Cluster IPs: taken from the ranges that ServiceCIDRs name, and booked as IPAddresses.

Used by services. Who creates the IPAddress has the address: that decides between two servers over one store. It is
created before the Service is written; `tidy`, which server runs every second, takes away those whose Service has gone
or was never written, and books what a Service of an older store has.
Source: KEP-1880 (Multiple Service CIDRs), kubernetes.io/docs/reference/networking/virtual-ips.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kybern.api.core_v1 import Service, ServiceSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.networking_v1 import IPAddress, IPAddressSpec, ParentReference, ServiceCIDR
from kybern.api.scalars import parse_time
from kybern.apiserver.registry.strategies.allocation import Holdings, Pool, PoolFull, Taken, service_addresses
from kybern.apiserver.registry.strategies.service_fields import HEADLESS
from kybern.machinery.status import ApiError

if TYPE_CHECKING:
    from kybern.apiserver.registry.strategy import Context

ADDRESSES, CIDRS, SERVICES = "ipaddresses.networking.k8s.io", "servicecidrs.networking.k8s.io", "services"
FAMILY, MANAGED_BY, OURS = (
    "ipaddress.kubernetes.io/ip-family",
    "ipaddress.kubernetes.io/managed-by",
    "ipallocator.k8s.io",
)
# The Service may be on its way to the store for so long.
_YOUNG = datetime.timedelta(seconds=60)
_TRIES = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NotInRange(Exception):
    """The address is of no range that gives out any."""


class Addresses:
    """Of one API server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._own = ipaddress.ip_network(context.service_cidr)  # the only range until there are ServiceCIDRs
        self._pools: dict[Network, Pool] = {}
        self._held = Holdings(context.reader, SERVICES, _numbers_of)
        self._open: tuple[Pool, ...] = ()
        self._open_at = -1  # version of the ServiceCIDRs
        self._let_go: set[str] = set()  # by deletions and failed writes of this server: nobody is about to use them
        self._tidied: tuple[int, int] | None = None  # versions of Services and IPAddresses that left nothing to do

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return self._own.version

    async def take(self, service: Service, address: str, *, book: bool) -> None:
        """Exactly this one. Raises Taken, NotInRange. `book` False: of a dry run, which changes nothing."""
        number = int(ipaddress.ip_address(address))
        pool = next((p for p in self._pools_now() if number in p.numbers), None)
        if pool is None:
            raise NotInRange
        pool.take(number)
        if book and not await self._book_of(pool, service, address):
            pool.give_back([number])
            raise Taken

    async def take_any(self, service: Service, *, book: bool) -> str:
        """One that is free, of the first range that has any. Raises PoolFull."""
        for pool in self._pools_now():
            for _ in range(_TRIES):
                try:
                    number = pool.take_any()
                except PoolFull:
                    break
                address = str(ipaddress.ip_address(number))
                if not book or await self._book_of(pool, service, address):
                    return address
        raise PoolFull

    def give_back(self, address: str) -> None:
        """A write let go of it, or was not done."""
        number = int(ipaddress.ip_address(address))
        for pool in self._pools.values():
            pool.give_back([number])
        self._let_go.add(address)
        self._tidied = None

    def range_of(self, address: str) -> str:
        """The range that an address is of, "" for none."""
        number = int(ipaddress.ip_address(address))
        return next((str(network) for network, pool in self._pools.items() if number in pool.numbers), "")

    def _pools_now(self) -> tuple[Pool, ...]:
        version = self._context.reader.version(CIDRS)
        if version != self._open_at:
            self._open = tuple(map(self._pool, self._networks()))
            self._open_at = version
        return self._open

    def _networks(self) -> list[Network]:
        cidrs: list[ServiceCIDR] = self._context.reader.list(CIDRS)
        if not cidrs:
            return [self._own]
        ready = sorted(filter(_is_ready, cidrs), key=lambda c: (c.metadata.creationTimestamp or "", c.metadata.name))
        networks = [ipaddress.ip_network(text) for cidr in ready for text in cidr.spec.cidrs]
        return [network for network in networks if network.version == self._own.version]

    def _pool(self, network: Network) -> Pool:
        pool = self._pools.get(network)
        if pool is None:
            numbers = service_addresses(int(network.network_address), network.num_addresses)
            pool = Pool(numbers, self._held.now, self._context.clock.monotonic, self._context.rng)
            self._pools[network] = pool
        return pool

    # -- IPAddresses ---------------------------------------------------------------------------------------------

    async def _book_of(self, pool: Pool, service: Service, address: str) -> bool:
        try:
            return await self._book(service, address)
        except Exception:  # not when cancelled: it may be booked nevertheless, and the pool forgets by itself
            pool.give_back([int(ipaddress.ip_address(address))])
            raise

    async def _book(self, service: Service, address: str) -> bool:
        """Whether the address is the Service's now."""
        for _ in range(2):
            try:
                await self._context.writer.create(ADDRESSES, self._booking(service, address))
            except ApiError as error:
                if not error.is_already_exists:
                    raise
            else:
                self._let_go.discard(address)
                return True
            if not self._is_left_over(address):
                return False
            await self._unbook(address)
        return False

    def _booking(self, service: Service, address: str) -> IPAddress:
        parent = ParentReference(
            resource=SERVICES, namespace=service.metadata.namespace, name=service.metadata.name, group=""
        )
        labels = {FAMILY: f"IPv{self._own.version}", MANAGED_BY: OURS}
        return IPAddress(metadata=ObjectMeta(name=address, labels=labels), spec=IPAddressSpec(parentRef=parent))

    async def _unbook(self, address: str) -> None:
        try:
            await self._context.writer.delete(ADDRESSES, "", address)
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._let_go.discard(address)

    def _is_left_over(self, address: str) -> bool:
        """Booked for a Service that does not have it, and is not just being written."""
        found: IPAddress | None = self._context.reader.get(ADDRESSES, "", address)
        return found is not None and not self._is_held(found) and (address in self._let_go or not self._is_young(found))

    def _is_held(self, booked: IPAddress) -> bool:
        """By a Service, or by somebody else who booked it for a purpose of their own."""
        parent = booked.spec.parentRef
        if parent.resource != SERVICES or parent.group or booked.metadata.labels.get(MANAGED_BY) != OURS:
            return True
        service: Service | None = self._context.reader.get(SERVICES, parent.namespace or "", parent.name or "")
        return service is not None and booked.metadata.name in addresses_of(service.spec)

    def _is_young(self, booked: IPAddress) -> bool:
        created = booked.metadata.creationTimestamp
        return created is not None and self._context.clock.now() - parse_time(created) < _YOUNG

    async def tidy(self) -> None:
        """Make the IPAddresses those of the Services."""
        reader = self._context.reader
        versions = reader.version(SERVICES), reader.version(ADDRESSES)
        if versions == self._tidied:
            return
        booked: dict[str, IPAddress] = {found.metadata.name: found for found in reader.list(ADDRESSES)}
        for service in reader.list(SERVICES):
            for address in addresses_of(service.spec):
                if address not in booked:
                    await self._book(service, address)
        is_settled = True
        for address, found in booked.items():
            if self._is_held(found):
                continue
            if self._is_left_over(address):
                await self._unbook(address)
            else:
                is_settled = False
        self._let_go &= booked.keys()
        if is_settled and not self._let_go and versions == (reader.version(SERVICES), reader.version(ADDRESSES)):
            self._tidied = versions


def addresses_of(spec: ServiceSpec) -> Iterator[str]:
    """The cluster IPs of a Service."""
    return (a for a in spec.clusterIPs or ([spec.clusterIP] if spec.clusterIP else []) if a != HEADLESS)


def _numbers_of(service: Service) -> Iterator[int]:
    return (int(ipaddress.ip_address(address)) for address in addresses_of(service.spec))


def _is_ready(cidr: ServiceCIDR) -> bool:
    """Addresses may be taken from it: also before a controller has looked at it."""
    if cidr.metadata.deletionTimestamp is not None:
        return False
    return all(c.status == "True" for c in cidr.status.conditions if c.type == "Ready")
