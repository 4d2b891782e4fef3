"""Defaults of pods and of the pod templates of workloads.

Pods get more than templates: service links, requests from limits, host ports and pod-level requests are settled only
when a pod is made, so that a template stays what its author wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api.core_v1 import (
    Container,
    EmptyDirVolumeSource,
    EphemeralContainer,
    HTTPGetAction,
    Lifecycle,
    PersistentVolumeClaimSpec,
    Pod,
    PodSecurityContext,
    PodSpec,
    PodTemplate,
    PodTemplateSpec,
    Probe,
    Volume,
    VolumeProjection,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.machinery import images, quantity
from kybern.machinery.defaults import amounts, volumes

_ZERO = Quantity("0")


def fill_pod(pod: Pod) -> None:
    spec = pod.spec
    fill_spec(spec)
    if spec.terminationGracePeriodSeconds is not None and spec.terminationGracePeriodSeconds < 0:
        spec.terminationGracePeriodSeconds = 1
    if spec.enableServiceLinks is None:
        spec.enableServiceLinks = True
    for container in spec.containers:
        _fill_requests(container)
    for container in spec.initContainers:
        _fill_requests(container)
    if spec.hostNetwork:
        _fill_host_ports(spec)
    if spec.resources is not None:
        _fill_pod_resources(spec)


def fill_template(template: PodTemplateSpec) -> None:
    fill_spec(template.spec)


def _fill_pod_template(template: PodTemplate) -> None:
    if template.template is None:
        template.template = PodTemplateSpec()
    fill_template(template.template)


def fill_spec(spec: PodSpec) -> None:
    """What pods and templates share."""
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.restartPolicy = spec.restartPolicy or "Always"
    spec.schedulerName = spec.schedulerName or "default-scheduler"
    if spec.securityContext is None:
        spec.securityContext = PodSecurityContext()
    if spec.terminationGracePeriodSeconds is None:
        spec.terminationGracePeriodSeconds = 30
    # serviceAccount is the old name of serviceAccountName; both are kept alike.
    spec.serviceAccountName = spec.serviceAccountName or spec.serviceAccount
    if spec.serviceAccountName:
        spec.serviceAccount = spec.serviceAccountName
    for volume in spec.volumes:
        _fill_volume(volume)
    for container in spec.containers:
        _fill_container(container)
    for container in spec.initContainers:
        _fill_container(container)
    for ephemeral in spec.ephemeralContainers:
        _fill_container(ephemeral)
    if spec.overhead:
        amounts.round_up(spec.overhead)
    if spec.resources is not None:
        amounts.round_up(spec.resources.limits)
        amounts.round_up(spec.resources.requests)


def _fill_container(c: Container | EphemeralContainer) -> None:
    if not c.terminationMessagePath:
        c.terminationMessagePath = "/dev/termination-log"
    if not c.terminationMessagePolicy:
        c.terminationMessagePolicy = "File"
    if not c.imagePullPolicy:
        c.imagePullPolicy = images.default_pull_policy(c.image or "")
    for port in c.ports:
        port.protocol = port.protocol or "TCP"
    for variable in c.env:
        source = variable.valueFrom
        if source is not None:
            if source.fieldRef is not None:
                source.fieldRef.apiVersion = source.fieldRef.apiVersion or "v1"
            if source.resourceFieldRef is not None and source.resourceFieldRef.divisor is None:
                source.resourceFieldRef.divisor = _ZERO
            if source.fileKeyRef is not None and source.fileKeyRef.optional is None:
                source.fileKeyRef.optional = False
    for probe in (c.livenessProbe, c.readinessProbe, c.startupProbe):
        if probe is not None:
            _fill_probe(probe)
    if c.lifecycle is not None:
        _fill_lifecycle(c.lifecycle)
    resources = c.resources
    if resources.limits:
        amounts.round_up(resources.limits)
    if resources.requests:
        amounts.round_up(resources.requests)


def _fill_probe(probe: Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    if probe.httpGet is not None:
        _fill_http(probe.httpGet)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _fill_http(action: HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _fill_lifecycle(lifecycle: Lifecycle) -> None:
    for handler in (lifecycle.postStart, lifecycle.preStop):
        if handler is not None and handler.httpGet is not None:
            _fill_http(handler.httpGet)


def _fill_requests(container: Container) -> None:
    """A limit without request is also requested."""
    resources = container.resources
    for name, amount in resources.limits.items():
        if name not in resources.requests:
            resources.requests[name] = amount


def _fill_host_ports(spec: PodSpec) -> None:
    """On the host's network every container port is a host port."""
    for container in (*spec.containers, *spec.initContainers):
        for port in container.ports:
            if not port.hostPort:
                port.hostPort = port.containerPort


_POD_LEVEL = ("cpu", "memory")


def _is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def _fill_pod_resources(spec: PodSpec) -> None:
    """Once a pod asks for anything as a whole: the huge pages of its containers are its limits; and where it has
    limits, its requests are what the containers request, else the limits.
    """
    resources = spec.resources
    assert resources is not None
    if resources.limits or resources.requests:
        for name, amount in _container_amounts(spec, "limits").items():
            known = name in resources.limits or name in resources.requests
            if name.startswith("hugepages-") and not known:
                resources.limits[name] = amount
    if not resources.limits:
        return
    for name, amount in container_requests(spec).items():
        if _is_pod_level(name) and name not in resources.requests and not name.startswith("hugepages-"):
            resources.requests[name] = amount
    for name, amount in resources.limits.items():
        if _is_pod_level(name) and name not in resources.requests:
            resources.requests[name] = amount


def container_requests(spec: PodSpec) -> dict[str, Quantity]:
    """What the containers of a pod request together: the sum of those that run side by side, or the largest moment of
    start-up if that is more. Sidecars (init containers that restart) run from their turn on.
    """
    return _container_amounts(spec, "requests")


def container_limits(spec: PodSpec) -> dict[str, Quantity]:
    return _container_amounts(spec, "limits")


def _container_amounts(spec: PodSpec, field: str) -> dict[str, Quantity]:
    sidecars: dict[str, Quantity] = {}
    moments: list[dict[str, Quantity]] = []
    for container in spec.initContainers:
        amounts = getattr(container.resources, field)
        if container.restartPolicy == "Always":
            sidecars = quantity.add_maps((sidecars, amounts))
            moments.append(sidecars)
        else:
            moments.append(quantity.add_maps((sidecars, amounts)))
    running = quantity.add_maps((sidecars, *(getattr(c.resources, field) for c in spec.containers)))
    return quantity.max_maps((running, *moments))


_MODES = frozenset({"secret", "configMap", "projected", "downwardAPI"})
_SOURCES = (*_MODES, "ephemeral", "image", "emptyDir")


def _fill_volume(volume: Volume) -> None:
    """Every source, although validation will take only one."""
    sources = [name for name in _SOURCES if getattr(volume, name) is not None]
    if not volumes.fill_sources(volume) and not sources:
        volume.emptyDir = EmptyDirVolumeSource()
    for name in sources:
        if name in _MODES:
            _fill_mode(getattr(volume, name))
    if volume.projected is not None:
        for source in volume.projected.sources:
            _fill_projection(source)
    if volume.downwardAPI is not None:
        _fill_downward(volume.downwardAPI.items)
    if volume.ephemeral is not None:
        _fill_ephemeral(volume)
    if volume.image is not None:
        image = volume.image
        image.pullPolicy = image.pullPolicy or images.default_pull_policy(image.reference or "")


def _fill_mode(source: Any) -> None:
    if source.defaultMode is None:
        source.defaultMode = 0o644


def _fill_projection(source: VolumeProjection) -> None:
    token = source.serviceAccountToken
    if token is not None and token.expirationSeconds is None:
        token.expirationSeconds = 3600
    if source.downwardAPI is not None:
        _fill_downward(source.downwardAPI.items)
    certificate = source.podCertificate
    if certificate is not None and certificate.maxExpirationSeconds is None:
        certificate.maxExpirationSeconds = 86400


def _fill_downward(items: list[Any]) -> None:
    for item in items:
        if item.fieldRef is not None:
            item.fieldRef.apiVersion = item.fieldRef.apiVersion or "v1"
        if item.resourceFieldRef is not None and item.resourceFieldRef.divisor is None:
            item.resourceFieldRef.divisor = _ZERO


def _fill_ephemeral(volume: Volume) -> None:
    template = volume.ephemeral.volumeClaimTemplate if volume.ephemeral is not None else None
    if template is not None:
        if template.metadata is None:
            template.metadata = ObjectMeta()
        fill_claim_spec(template.spec)


def fill_claim_spec(spec: PersistentVolumeClaimSpec) -> None:
    if spec.volumeMode is None:
        spec.volumeMode = "Filesystem"
    amounts.round_up(spec.resources.requests)
    amounts.round_up(spec.resources.limits)


DEFAULTS: dict[type[Any], Callable[[Any], None]] = {Pod: fill_pod, PodTemplate: _fill_pod_template}
