"""Which pods back a service, and at which ports: what Endpoints and EndpointSlices share. Pure, but for the wiring.

Read by endpoints and endpointslice. `wake_services` queues a service whenever it, or a pod it selects, changes. Pods
and services find each other by indexes of labels: what a pod costs does not grow with its namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kybern.api.core_v1 import Container, ObjectReference, Pod, Service, ServicePort
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.controllers import pods, runtime
from kybern.machinery import labels

HEADLESS = "service.kubernetes.io/headless"
LABELS = "labels"  # index of pods: each label
SELECTOR = "selector"  # index of services: the label they are looked up by


def is_headless(service: Service) -> bool:
    return service.spec.clusterIP == "None"


def has_endpoints(service: Service) -> bool:
    """Its endpoints follow its selector; those of others are made by somebody else."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def selected(service: Service, candidates: Iterable[Pod]) -> list[Pod]:
    selector = labels.from_map(service.spec.selector)
    return [pod for pod in candidates if selector.matches(pod.metadata.labels)]


def index_pods(informer: Informer[Pod]) -> None:
    """For `backing`."""
    informer.add_index(LABELS, lambda pod: _terms(pod.metadata.namespace, pod.metadata.labels))


def backing(service: Service, informer: Informer[Pod]) -> list[Pod]:
    """The pods that a service with a selector selects. `informer`: one that `index_pods` was told of."""
    terms = _terms(service.metadata.namespace, service.spec.selector)
    having = sorted((informer.by_index(LABELS, term) for term in terms), key=len)
    return selected(service, having[0] if having else [])


def _terms(namespace: str, found: Mapping[str, str]) -> list[str]:
    return [f"{namespace}/{key}={value}" for key, value in found.items()]


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """The number a service port has in this pod; None if its name means nothing there."""
    target = port.targetPort
    if target is None or target in ("", 0):
        return port.port
    if isinstance(target, int):
        return target
    protocol = port.protocol or "TCP"
    for container in (*pod.spec.containers, *_sidecars(pod)):
        for candidate in container.ports:
            if candidate.name == target and (candidate.protocol or "TCP") == protocol:
                return candidate.containerPort
    return None


def _sidecars(pod: Pod) -> list[Container]:
    return [c for c in pod.spec.initContainers if c.restartPolicy == "Always"]


def addresses(pod: Pod) -> list[str]:
    found = [entry.ip for entry in pod.status.podIPs if entry.ip]
    return found or ([pod.status.podIP] if pod.status.podIP else [])


def is_serving(pod: Pod) -> bool:
    """Its address may be published: it has one, and its containers have not ended for good."""
    return bool(addresses(pod)) and not pods.is_finished(pod)


def hostname(pod: Pod, service: Service) -> str | None:
    """The pod's own DNS name under the service, if it asked for one."""
    if pod.spec.hostname and pod.spec.subdomain == service.metadata.name:
        return pod.spec.hostname
    return None


def reference(pod: Pod) -> ObjectReference:
    return ObjectReference(kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid)


def wake_services(context: runtime.Context, loop: runtime.Loop) -> None:
    """Queue services whose endpoints may have changed."""
    services = context.informers.of(Service)
    services.add_index(SELECTOR, _looked_up_by)
    informer = context.informers.of(Pod)
    runtime.enqueue_on_change(loop, services)

    def changed(old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _looks_alike(old, new):
            return
        for pod in (old, new):
            if pod is not None:
                for service in selecting(pod, services):
                    loop.queue.add(shapes.key_of(service))

    informer.on_change(changed)


def _looked_up_by(service: Service) -> list[str]:
    """One label of its selector: pods without it are none of its own."""
    return _terms(service.metadata.namespace, service.spec.selector)[:1] if has_endpoints(service) else []


def selecting(pod: Pod, services: Informer[Service]) -> list[Service]:
    """The services that select a pod."""
    found = []
    for term in _terms(pod.metadata.namespace, pod.metadata.labels):
        for service in services.by_index(SELECTOR, term):
            if service.spec.selector.items() <= pod.metadata.labels.items():
                found.append(service)
    return found


def _looks_alike(old: Pod, new: Pod) -> bool:
    """Nothing that endpoints tell has changed."""
    return (
        old.metadata.labels == new.metadata.labels
        and (old.metadata.deletionTimestamp is None) == (new.metadata.deletionTimestamp is None)
        and old.spec.nodeName == new.spec.nodeName
        and addresses(old) == addresses(new)
        and pods.is_ready(old) == pods.is_ready(new)
        and pods.is_finished(old) == pods.is_finished(new)
    )
