"""Whether the server behind an APIService can be reached: the Available condition, in upstream's words. Pure.

Called by reconcile. First what Services and EndpointSlices say; only if they have nothing against it, the server is
asked itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kybern.api import codec
from kybern.api.apiregistration_v1 import APIService, APIServiceCondition
from kybern.apiserver.aggregator import remote as remotes
from kybern.apiserver.aggregator.remote import Remote

_SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the condition says."""

    is_available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
PASSED = Verdict(True, "Passed", "all checks passed")


class Unreachable(Exception):
    """A Service leads nowhere; the text says why."""


def failed(why: str) -> Verdict:
    """The server could not be asked, or answered badly."""
    return Verdict(False, "FailedDiscoveryCheck", why)


def _port_of(service: Any, number: int) -> Any:
    return next((p for p in service.spec.ports if p.port == number), None)


def _ready(remote: Remote, slices: Iterable[Any], port_name: str) -> list[tuple[str, int]]:
    """Addresses of endpoints that take requests on a port of the Service."""
    found = []
    for each in slices:
        if each.metadata.labels.get(_SERVICE_NAME) != remote.service or each.addressType == "FQDN":
            continue
        numbers = [p.port for p in each.ports if (p.name or "") == port_name and p.port]
        for endpoint in each.endpoints:
            ready = endpoint.conditions.ready if endpoint.conditions is not None else None
            if ready is not False and numbers:
                found += [(address, numbers[0]) for address in endpoint.addresses[:1]]
    return found


def judge(remote: Remote, service: Any, slices: Iterable[Any]) -> Verdict | None:
    """What is wrong with the Service and its endpoints; None: nothing, so ask the server itself."""
    named = f'service/{remote.service} in "{remote.namespace}"'
    if service is None:
        return Verdict(False, "ServiceNotFound", f"{named} is not present")
    if service.spec.type not in (None, "", "ClusterIP"):
        return None
    port = _port_of(service, remote.port)
    if port is None:
        return Verdict(False, "ServicePortError", f"{named} is not listening on port {remote.port}")
    own = [s for s in slices if s.metadata.labels.get(_SERVICE_NAME) == remote.service]
    if not own:
        return Verdict(False, "EndpointsNotFound", f"cannot find endpointslices for {named}")
    if not _ready(remote, own, port.name or ""):
        said = f'endpointslices for {named} have no addresses with port name "{port.name or ""}"'
        return Verdict(False, "MissingEndpoints", said)
    return None


def address(
    remote: Remote, service: Any, slices: Iterable[Any], by_endpoint: bool, rng: random.Random
) -> tuple[str, int]:
    """Where to connect: the Service's cluster IP, or (`by_endpoint`) one of its endpoints. Raises Unreachable."""
    if service is None:
        raise Unreachable(f'service "{remote.service}" not found')
    spec = service.spec
    if spec.type == "ExternalName":
        if by_endpoint:
            raise Unreachable('unsupported service type "ExternalName"')
        return spec.externalName or "", remote.port
    port = _port_of(service, remote.port)
    if port is None:
        raise Unreachable(f'no service port {remote.port} found for service "{remote.service}"')
    if not by_endpoint:
        if not spec.clusterIP or spec.clusterIP == "None":
            raise Unreachable(f'cannot route to service with ClusterIP "{spec.clusterIP or ""}"')
        return spec.clusterIP, remote.port
    found = _ready(remote, slices, port.name or "")
    if not found:
        raise Unreachable(f'no endpoints available for service "{remote.service}"')
    return found[rng.randrange(len(found))]


def plan_condition(obj: APIService, verdict: Verdict, now: Any) -> APIService | None:
    """The object with its condition as it should be, or None where it is so already."""
    status = "True" if verdict.is_available else "False"
    known = remotes.available(obj)
    if known is not None and (known.status, known.reason, known.message) == (status, verdict.reason, verdict.message):
        return None
    since = known.lastTransitionTime if known is not None and known.status == status else now
    condition = APIServiceCondition(
        type=remotes.AVAILABLE, status=status, reason=verdict.reason, message=verdict.message, lastTransitionTime=since
    )
    changed = codec.clone(obj)
    others = [c for c in changed.status.conditions if c.type != remotes.AVAILABLE]
    if known is None:
        changed.status.conditions = [*others, condition]
    else:
        changed.status.conditions = [condition if c.type == remotes.AVAILABLE else c for c in changed.status.conditions]
    return changed
