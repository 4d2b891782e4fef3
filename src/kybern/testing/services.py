"""Services and EndpointSlices as short calls, for tests of proxy and DNS."""

from __future__ import annotations

from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import Service
from kybern.api.discovery_v1 import EndpointSlice


def service(name: str, ip: str, *ports: dict[str, Any], namespace: str = "default", **spec: Any) -> Service:
    """A Service; `labels`, `ingress` (load balancer addresses) and every field of spec by name."""
    labels = spec.pop("labels", {})
    ingress = [{"ip": address} for address in spec.pop("ingress", ())]
    value = {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": f"{namespace}/{name}"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip] if ip else [], "type": "ClusterIP", "ports": list(ports), **spec},
        "status": {"loadBalancer": {"ingress": ingress}},
    }
    return codec.from_json(Service, value)[0]


def port(number: int, protocol: str = "TCP", name: str = "", **other: Any) -> dict[str, Any]:
    return {"port": number, "protocol": protocol, **({"name": name} if name else {}), **other}


def endpoint(address: str, node: str = "there", **other: Any) -> dict[str, Any]:
    """One endpoint; `ready`, `serving`, `terminating` and every field of an endpoint by name."""
    conditions = {c: other.pop(c) for c in ("ready", "serving", "terminating") if c in other}
    return {"addresses": [address], "nodeName": node, "conditions": conditions, **other}


def endpoint_slice(
    owner: str, ports: list[dict[str, Any]], *endpoints: dict[str, Any], namespace: str = "default", suffix: str = "x"
) -> EndpointSlice:
    value = {
        "metadata": {
            "name": f"{owner}-{suffix}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": owner},
            "uid": f"{namespace}/{owner}-{suffix}",
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": list(endpoints),
    }
    return codec.from_json(EndpointSlice, value)[0]
