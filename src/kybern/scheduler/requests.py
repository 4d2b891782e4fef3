"""How much of each resource a pod takes, from the moment it is placed. Pure; asked once a pod by pod_info.

The most that is in use at any time: ordinary init containers run one by one, before the containers; those that
restart always (sidecars) run from their turn on. Requests of the pod as a whole go before those of its containers.
While containers are resized, the larger of what is asked for and what they hold counts.
Source: "Sidecar Containers: resource sharing within containers", "Pod Overhead", KEP-2837, KEP-1287.
"""

from __future__ import annotations

from collections.abc import Mapping

from kybern.machinery import quantity
from kybern.scheduler.objects import ContainerStatusView, ContainerView, PodView

CPU = "cpu"
MEMORY = "memory"
# What a container that asks for nothing counts as in scores. Source: kube-scheduler's documented defaults.
DEFAULT_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
# Larger amounts than this are no one's: sums of 2,000 of them stay within 64 bits.
LIMIT = 1 << 52

Amounts = dict[str, int]


def amount(name: str, text: str) -> int:
    """Milli-cores for cpu, whole units for all else, at most LIMIT."""
    value = quantity.milli(text) if name == CPU else quantity.value(text)
    return min(value, LIMIT)


def of_list(amounts: Mapping[str, str]) -> Amounts:
    return {name: amount(name, text) for name, text in amounts.items()}


def of_pod(pod: PodView) -> Amounts:
    """Everything the pod takes, without zeros. More than LIMIT becomes LIMIT + 1, which fits nowhere."""
    total = _sum(pod, nonzero=False)
    return {name: min(value, LIMIT + 1) for name, value in total.items() if value > 0}


def nonzero_of_pod(pod: PodView) -> tuple[int, int]:
    """(cpu, memory), with the defaults for containers that ask for none."""
    total = _sum(pod, nonzero=True)
    return min(total.get(CPU, 0), LIMIT), min(total.get(MEMORY, 0), LIMIT)


def _sum(pod: PodView, *, nonzero: bool) -> Amounts:
    spec = pod.spec
    held = {s.name: s for s in (*pod.status.containerStatuses, *pod.status.initContainerStatuses)}
    running: Amounts = {}
    for container in spec.containers:
        _add(running, _of_container(container, held.get(container.name), nonzero=nonzero))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.initContainers:
        own = _of_container(container, held.get(container.name), nonzero=nonzero)
        if container.restartPolicy == "Always":
            _add(running, own)
            _add(sidecars, own)
            _raise(peak, sidecars)
        else:
            together = dict(sidecars)
            _add(together, own)
            _raise(peak, together)
    _raise(running, peak)
    if spec.resources is not None:
        running |= of_list(spec.resources.requests)
    _add(running, of_list(spec.overhead))
    return running


def _of_container(container: ContainerView, held: ContainerStatusView | None, *, nonzero: bool) -> Amounts:
    wanted = of_list(container.resources.requests)
    if held is not None:
        if held.allocatedResources:
            _raise(wanted, of_list(held.allocatedResources))
        if held.resources is not None:
            _raise(wanted, of_list(held.resources.requests))
    if nonzero:
        wanted.setdefault(CPU, DEFAULT_CPU)
        wanted.setdefault(MEMORY, DEFAULT_MEMORY)
    return wanted


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: Amounts, other: Amounts) -> None:
    for name, value in other.items():
        if value > total.get(name, 0):
            total[name] = value
