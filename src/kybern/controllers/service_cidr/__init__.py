"""ServiceCIDRs: ready to allocate from, and held back from deletion while addresses of theirs are in use."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kybern.api import codec, scalars
from kybern.api.meta_v1 import Condition
from kybern.api.networking_v1 import IPAddress, ServiceCIDR
from kybern.controllers import runtime
from kybern.machinery.status import ApiError

NAME = "service-cidr-controller"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"


def networks(cidr: ServiceCIDR) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Its ranges; what does not parse is left out (validation refuses it)."""
    found = []
    for text in cidr.spec.cidrs:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            continue
    return found


def is_needed(cidr: ServiceCIDR, others: Iterable[ServiceCIDR], addresses: Iterable[IPAddress]) -> bool:
    """Some address of a service is in it, and in no other range that stays."""
    own = networks(cidr)
    rest = [
        network
        for other in others
        if other.metadata.uid != cidr.metadata.uid and other.metadata.deletionTimestamp is None
        for network in networks(other)
    ]
    for address in addresses:
        try:
            ip = ipaddress.ip_address(address.metadata.name)
        except ValueError:
            continue
        if any(ip in network for network in own) and not any(ip in network for network in rest):
            return True
    return False


class ServiceCidrController(runtime.Looped):
    """runtime.Controller; keys are names of ServiceCIDRs."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._cidrs = context.informers.of(ServiceCIDR)
        self._addresses = context.informers.of(IPAddress)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._cidrs)
        self._addresses.on_change(self._address_changed)

    def _address_changed(self, old: IPAddress | None, new: IPAddress | None) -> None:
        if new is None:
            for cidr in self._cidrs.list():
                if cidr.metadata.deletionTimestamp is not None:
                    self.loop.queue.add(cidr.metadata.name)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        cidr = self._cidrs.by_key(key)
        if cidr is None:
            return None
        if cidr.metadata.deletionTimestamp is not None:
            return await self._delete(cidr)
        if FINALIZER not in cidr.metadata.finalizers:
            cidr = await self._set_finalizers(cidr, [*cidr.metadata.finalizers, FINALIZER])
        if not any(c.type == "Ready" and c.status == "True" for c in cidr.status.conditions):
            await self._report(cidr, "True", "", "Kubernetes Service CIDR is ready")
        return None

    async def _delete(self, cidr: ServiceCIDR) -> runtime.RequeueAfter | None:
        if FINALIZER not in cidr.metadata.finalizers:
            return None
        if is_needed(cidr, self._cidrs.list(), self._addresses.list()):
            message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new "
            await self._report(cidr, "False", "Terminating", message + "ServiceCIDR")
            return runtime.RequeueAfter(10.0)
        if not any(c.type == "Ready" and c.reason == "Terminating" for c in cidr.status.conditions):
            message = "ServiceCIDR is being deleted"
            await self._report(cidr, "False", "Terminating", message)
            return runtime.RequeueAfter(1.0)  # allocators have to see that before the range goes
        await self._set_finalizers(cidr, [f for f in cidr.metadata.finalizers if f != FINALIZER], observe=False)
        return None

    async def _set_finalizers(self, cidr: ServiceCIDR, finalizers: list[str], *, observe: bool = True) -> ServiceCIDR:
        patch = {"metadata": {"resourceVersion": cidr.metadata.resourceVersion, "finalizers": finalizers}}
        patcher = self._context.patch if observe else self._context.client.patch
        try:
            return await patcher(ServiceCIDR, "", cidr.metadata.name, patch)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return cidr

    async def _report(self, cidr: ServiceCIDR, status: str, reason: str, message: str) -> None:
        stamp = scalars.render_time(self._context.clock.now())
        condition = Condition(type="Ready", status=status, reason=reason, message=message, lastTransitionTime=stamp)
        fresh = codec.clone(cidr)
        fresh.status.conditions = [*(c for c in fresh.status.conditions if c.type != "Ready"), condition]
        await self._context.update_status(fresh)


def build(context: runtime.Context) -> ServiceCidrController:
    return ServiceCidrController(context)
