"""Where a webhook is: a configuration (url, Service, kubeconfig) to an address, a TLS name and whom to trust. Pure.

Used by client. A Service is looked up at each call, so that a change of it takes effect at once. Source: "Dynamic
Admission Control" in the Kubernetes documentation.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Any, Protocol

from kybern.apiserver.request import Reader
from kybern.client.kubeconfig import Access, Pem

_SERVICE_PORT = 443


class ServiceReference(Protocol):
    """Of admissionregistration.k8s.io and apiextensions.k8s.io alike."""

    name: str
    namespace: str
    path: str | None
    port: int | None


class ClientConfig(Protocol):
    """Of admissionregistration.k8s.io and apiextensions.k8s.io alike: `url` or `service`."""

    url: str | None
    caBundle: bytes | None

    @property
    def service(self) -> ServiceReference | None: ...


class Unresolved(Exception):
    """The configuration leads nowhere; the text says why, in upstream's words."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One webhook of one server. What is dialled may differ from what the URL says: a Service has an address."""

    url: str  # without query, as messages show it
    authority: str  # the Host header
    path: str
    host: str  # dialled
    port: int
    is_tls: bool
    access: Access  # whom to trust, which name to expect, which certificate to show


def of_url(url: str, access: Access) -> Destination:
    """The server of a URL itself. Raises Unresolved."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unresolved(f'parse "{url}": {error}') from None
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or _is_forged(url):
        raise Unresolved(f'unsupported URL "{url}"')
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_tls = parts.scheme == "https"
    return Destination(url, parts.netloc, path, parts.hostname, port or (443 if is_tls else 80), is_tls, access)


def of_config(config: ClientConfig, services: Reader) -> Destination:
    """Where a `clientConfig` points. Raises Unresolved."""
    bundle = Pem(data=bytes(config.caBundle or b""))
    service = config.service
    if service is None:
        url = config.url or ""
        if not url.startswith("https://"):
            raise Unresolved(f'unsupported URL "{url}"')
        return of_url(url, Access("", ca=bundle))
    name = f"{service.name}.{service.namespace}.svc"
    port = service.port or _SERVICE_PORT
    path = "/" + (service.path or "").lstrip("/")
    host, dialled = _address(services, service, port)
    url = f"https://{name}:{port}{path}"
    if _is_forged(url):
        raise Unresolved(f'unsupported URL "{url}"')
    access = Access("", ca=bundle, tls_server_name=name)
    return Destination(url, f"{name}:{port}", path, host, dialled, True, access)


def shown_url(config: ClientConfig) -> str:
    """How messages name a `clientConfig`, reachable or not."""
    service = config.service
    if service is None:
        return config.url or ""
    path = "/" + (service.path or "").lstrip("/")
    return f"https://{service.name}.{service.namespace}.svc:{service.port or _SERVICE_PORT}{path}"


def _is_forged(url: str) -> bool:
    """Whether it could end a line of a request."""
    return not url.isascii() or any(c <= " " or c == "\x7f" for c in url)


def _address(services: Reader, reference: ServiceReference, port: int) -> tuple[str, int]:
    """Where a port of a Service is reached from this machine: its cluster IP, as kube-proxy serves it here as well."""
    service: Any = services.get("services", reference.namespace, reference.name)
    if service is None:
        raise Unresolved(f'service "{reference.name}" not found')
    spec = service.spec
    if spec.type == "ExternalName":
        return spec.externalName or "", port
    if not spec.clusterIP or spec.clusterIP == "None":
        raise Unresolved(f'cannot route to service with ClusterIP "{spec.clusterIP or ""}"')
    if not any(p.port == port for p in spec.ports):
        raise Unresolved(f'no service port {port} found for service "{reference.name}"')
    return spec.clusterIP, port
