"""Make the DNS server known to the cluster: the Service kube-system/kube-dns, and a slice that points to this node.

Called by process/dns. `plan_service` and `plan_slice` are pure; `Registrar` writes, and writes again what others
delete or change. A Service that exists with another address is left as it is: an address cannot be changed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from kybern.api import codec
from kybern.api.core_v1 import Namespace, Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client.rest import RestClient
from kybern.dns.zone import SERVICE_NAME_LABEL
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

NAMESPACE, NAME = "kube-system", "kube-dns"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY = "kybern-dns"  # so that no controller takes the slice for its own
_PERIOD = 30.0
_RETRY = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this server is."""

    node: str
    address: str  # IPv4
    dns_port: int
    metrics_port: int
    cluster_ip: str = "10.96.0.10"


def plan_service(place: Place) -> Service:
    """The Service as kubeadm makes it, but without selector: no pod is behind it."""
    value = {
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": place.cluster_ip,
            "clusterIPs": [place.cluster_ip],
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": place.dns_port},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": place.dns_port},
                {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": place.metrics_port},
            ],
        },
    }
    return codec.from_json(Service, value)[0]


def plan_slice(place: Place) -> EndpointSlice:
    """This server as the Service's endpoint."""
    value = {
        "metadata": {
            "name": f"{NAME}-{place.node}",
            "namespace": NAMESPACE,
            "labels": {SERVICE_NAME_LABEL: NAME, "k8s-app": "kube-dns", MANAGED_BY_LABEL: MANAGED_BY},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [place.address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": place.node,
            }
        ],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": place.dns_port},
            {"name": "dns-tcp", "protocol": "TCP", "port": place.dns_port},
            {"name": "metrics", "protocol": "TCP", "port": place.metrics_port},
        ],
    }
    return codec.from_json(EndpointSlice, value)[0]


class Registrar:
    """Keeps both objects there while the server runs."""

    def __init__(self, client: RestClient, clock: Clock, place: Place) -> None:
        self._client = client
        self._clock = clock
        self._place = place

    async def run(self) -> None:
        """Until cancelled; then the slice is taken away, so that nobody asks a server that is gone."""
        try:
            while True:
                try:
                    await self._ensure()
                    pause = _PERIOD
                except ApiError as error:
                    log.warning("could not register the DNS server", error=str(error), retry_in=_RETRY)
                    pause = _RETRY
                await self._clock.sleep(pause)
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _ensure(self) -> None:
        await self._ensure_namespace()
        try:
            service = await self._client.get(Service, NAMESPACE, NAME)
            if service.spec.clusterIP != self._place.cluster_ip:
                log.warning("kube-dns has another address", has=service.spec.clusterIP, wanted=self._place.cluster_ip)
        except ApiError as error:
            if not error.is_not_found:
                raise
            await self._client.create(plan_service(self._place))
            log.info("created the Service of the DNS server", address=self._place.cluster_ip)
        wanted = plan_slice(self._place)
        try:
            current = await self._client.get(EndpointSlice, NAMESPACE, wanted.metadata.name or "")
        except ApiError as error:
            if not error.is_not_found:
                raise
            await self._client.create(wanted)
            return
        if (current.endpoints, current.ports) != (wanted.endpoints, wanted.ports):
            changed = codec.clone(current)
            changed.endpoints, changed.ports = wanted.endpoints, wanted.ports
            changed.metadata.labels.update(wanted.metadata.labels)
            await self._client.update(changed)

    async def _ensure_namespace(self) -> None:
        try:
            await self._client.get(Namespace, "", NAMESPACE)
        except ApiError as error:
            if not error.is_not_found:
                raise
            value = {"metadata": {"name": NAMESPACE}}
            await self._client.create(codec.from_json(Namespace, value)[0])

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._client.delete(EndpointSlice, NAMESPACE, plan_slice(self._place).metadata.name or "")
        except (ApiError, TimeoutError, OSError) as error:
            log.info("could not take the DNS server's slice away", error=str(error))
