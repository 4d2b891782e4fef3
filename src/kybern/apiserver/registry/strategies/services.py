"""Services: cluster IPs, node ports and health check ports are given out here, kept over updates, and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kybern.api.core_v1 import Service, ServiceSpec, ServiceStatus
from kybern.api.resource import Resource
from kybern.apiserver.registry.strategies import service_fields as plan
from kybern.apiserver.registry.strategies.addresses import Addresses, NotInRange, addresses_of
from kybern.apiserver.registry.strategies.allocation import Holdings, Pool, PoolFull, Taken, node_ports
from kybern.apiserver.registry.strategy import Context, Strategy
from kybern.apiserver.request import User
from kybern.machinery import validation
from kybern.machinery.status import ApiError, FieldError, invalid
from kybern.machinery.validation import services as service_rules


class Services(Strategy):
    selected_from = ("spec.clusterIP", "spec.type")

    def __init__(self, context: Context, resource: Resource) -> None:
        super().__init__(context, resource)
        self.addresses = Addresses(context)
        # What has been given out: ports by how they were asked for, addresses also by their range. For metrics.
        self.given_ports: dict[str, int] = {}
        self.given_addresses: dict[tuple[str, str], int] = {}
        held = Holdings(context.reader, "services", lambda service: _ports_of(service.spec))
        self._ports = Pool(node_ports(*context.node_port_range), held.now, context.clock.monotonic, context.rng)

    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        plan.normalise_cluster_ips(obj.spec, None)
        plan.fill_families(obj)

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        plan.normalise_cluster_ips(obj.spec, old.spec)
        plan.keep_allocated(obj.spec, old.spec)
        plan.drop_unneeded(obj.spec, old.spec)
        if old.spec.type == "LoadBalancer" and obj.spec.type != "LoadBalancer":
            # A new one: the old object's is others' to read, and this update may yet fail.
            obj.status = ServiceStatus(conditions=list(old.status.conditions))
        plan.fill_families(obj)

    def validate_create(self, obj: Any) -> list[FieldError]:
        return self._address_faults(obj.spec) or validation.validate_create(obj)

    def validate_update(self, obj: Any, old: Any) -> list[FieldError]:
        faults = self._policy_faults(obj.spec) or self._shape_faults(obj.spec) or validation.validate_update(obj, old)
        return faults or self._family_faults(obj.spec)

    def _address_faults(self, spec: ServiceSpec) -> list[FieldError]:
        """What would be wrong with allocating: told alone, before the rest is looked at."""
        return self._policy_faults(spec) or self._shape_faults(spec) or self._family_faults(spec)

    def _shape_faults(self, spec: ServiceSpec) -> list[FieldError]:
        faults: list[FieldError] = []
        if plan.needs_cluster_ip(spec):
            service_rules.check_cluster_ips(spec, faults)
        return faults

    def _policy_faults(self, spec: ServiceSpec) -> list[FieldError]:
        """Two families where the cluster has one."""
        if spec.ipFamilyPolicy != "RequireDualStack" or self._is_without_families(spec):
            return []
        message = "this cluster is not configured for dual-stack services"
        return [invalid("spec.ipFamilyPolicy", spec.ipFamilyPolicy, message)]

    @staticmethod
    def _is_without_families(spec: ServiceSpec) -> bool:
        return not plan.needs_cluster_ip(spec) or (plan.is_headless(spec) and not spec.selector)

    def _family_faults(self, spec: ServiceSpec) -> list[FieldError]:
        """Families this cluster does not have."""
        if self._is_without_families(spec):
            return []
        mine = f"IPv{self.addresses.version}"
        if told := [ip for ip in spec.clusterIPs if ip != plan.HEADLESS and plan.family_of(ip) != mine]:
            where = f"spec.clusterIPs[{spec.clusterIPs.index(told[0])}]"
            return [invalid(where, spec.clusterIPs, f"{plan.family_of(told[0])} is not configured on this cluster")]
        return [
            invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")
            for i, family in enumerate(spec.ipFamilies)
            if family != mine
        ]

    async def allocate(self, obj: Any, old: Any | None, *, dry_run: bool) -> Callable[[], None] | None:
        service: Service = obj
        if service.spec.type == "ExternalName":
            service.spec.internalTrafficPolicy = None  # legal, and of no use
        ports: list[int] = []
        addresses: list[str] = []
        asked: set[int | str] = {*_ports_of(service.spec), *addresses_of(service.spec)}

        def give_back() -> None:
            self._ports.give_back(ports)
            for address in addresses:
                self.addresses.give_back(address)

        try:
            await self._allocate_address(service, old, addresses, book=not dry_run)
            self._allocate_ports(service, old, ports)
            self._allocate_health_check(service, old, ports)
        except BaseException:
            give_back()
            raise
        if not dry_run:
            self._count(ports, addresses, asked)
        if old is not None and not dry_run:
            # What this update lets go of is held by the old object until the write is done, and then by nobody.
            self._ports.give_back(set(_ports_of(old.spec)) - set(_ports_of(service.spec)))
            for address in set(addresses_of(old.spec)) - set(addresses_of(service.spec)):
                self.addresses.give_back(address)
        return give_back

    def _count(self, ports: list[int], addresses: list[str], asked: set[int | str]) -> None:
        for port in ports:
            scope = "static" if port in asked else "dynamic"
            self.given_ports[scope] = self.given_ports.get(scope, 0) + 1
        for address in addresses:
            key = self.addresses.range_of(address), "static" if address in asked else "dynamic"
            self.given_addresses[key] = self.given_addresses.get(key, 0) + 1

    def count_ports(self) -> tuple[int, int]:
        """Ports of the nodes that Services hold, and that are left."""
        held, (first, last) = len(self._ports.held()), self.context.node_port_range
        return held, last - first + 1 - held

    async def _allocate_address(self, service: Service, old: Service | None, taken: list[str], *, book: bool) -> None:
        spec = service.spec
        if not plan.needs_cluster_ip(spec) or plan.is_headless(spec):
            return
        if spec.clusterIPs:
            if old is not None and spec.clusterIPs == old.spec.clusterIPs:
                return
            for address in spec.clusterIPs:
                try:
                    await self.addresses.take(service, address, book=book)
                except NotInRange:
                    why = "the provided network does not match the current range"
                    raise self._address_error(service, address, why) from None
                except Taken:
                    raise self._address_error(service, address, "provided IP is already allocated") from None
                taken.append(address)
            return
        try:
            spec.clusterIP = await self.addresses.take_any(service, book=book)
        except PoolFull:
            raise ApiError.internal("failed to allocate a serviceIP: range is full") from None
        taken.append(spec.clusterIP)
        spec.clusterIPs = [spec.clusterIP]

    def _address_error(self, service: Service, address: str, why: str) -> ApiError:
        fault = invalid("spec.clusterIPs", service.spec.clusterIPs, f"failed to allocate IP {address}: {why}")
        return self._invalid(service, fault)

    def _invalid(self, service: Service, fault: FieldError) -> ApiError:
        return ApiError.invalid(self.resource.group, self.resource.kind, service.metadata.name, [fault])

    def _allocate_ports(self, service: Service, old: Service | None, taken: list[int]) -> None:
        spec = service.spec
        if not plan.may_have_node_ports(spec):
            return
        mine = {p.nodePort for p in old.spec.ports if p.nodePort} if old is not None else set()
        # Within one Service a number may serve several protocols of one port.
        given: dict[int, set[str]] = {}
        served: set[tuple[int, int]] = set()
        for i, port in enumerate(spec.ports):
            if not port.nodePort:
                continue
            if (port.port, port.nodePort) not in served and port.nodePort not in mine:
                self._take_port(service, f"spec.ports[{i}].nodePort", port.nodePort, taken)
            served.add((port.port, port.nodePort))
            given.setdefault(port.nodePort, set()).add(port.protocol or "TCP")
        if not plan.needs_node_ports(spec):
            return
        for port in spec.ports:
            if port.nodePort:
                continue
            # The same port in another protocol gets the same number, if it can.
            sibling = next(
                (p.nodePort for p in spec.ports if p.nodePort and p.port == port.port and p.protocol != port.protocol),
                None,
            )
            if sibling is not None and port.protocol not in given.get(sibling, set()):
                port.nodePort = sibling
            else:
                port.nodePort = self._any_port(taken)
            given.setdefault(port.nodePort, set()).add(port.protocol or "TCP")

    def _take_port(self, service: Service, path: str, number: int, taken: list[int]) -> None:
        if number not in self._ports.numbers:
            first, last = self.context.node_port_range
            message = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
            raise self._invalid(service, invalid(path, number, message))
        try:
            self._ports.take(number)
        except Taken:
            raise self._invalid(service, invalid(path, number, "provided port is already allocated")) from None
        taken.append(number)

    def _any_port(self, taken: list[int]) -> int:
        try:
            number = self._ports.take_any()
        except PoolFull:
            raise ApiError.internal("failed to allocate a nodePort: range is full") from None
        taken.append(number)
        return number

    def _allocate_health_check(self, service: Service, old: Service | None, taken: list[int]) -> None:
        spec = service.spec
        if not plan.needs_health_check_port(spec):
            return
        if not spec.healthCheckNodePort:
            spec.healthCheckNodePort = self._any_port(taken)
            return
        number = spec.healthCheckNodePort
        if old is not None and old.spec.healthCheckNodePort == number:
            return
        # Upstream answers 500 to either fault.
        self._take_port(service, "spec.healthCheckNodePort", number, taken)

    def after_delete(self, obj: Any) -> None:
        self._ports.give_back(_ports_of(obj.spec))
        for address in addresses_of(obj.spec):
            self.addresses.give_back(address)

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return super().selectable_fields(obj) | {
            "spec.clusterIP": obj.spec.clusterIP or "",
            "spec.type": obj.spec.type or "",
        }


def _ports_of(spec: ServiceSpec) -> Iterator[int]:
    """Every port of the nodes that a Service holds."""
    for port in spec.ports:
        if port.nodePort:
            yield port.nodePort
    if spec.healthCheckNodePort:
        yield spec.healthCheckNodePort
