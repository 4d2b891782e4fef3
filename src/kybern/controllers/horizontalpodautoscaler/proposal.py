"""How many replicas one metric asks for. Pure; amounts in nano-units.

Read by reconcile. The proportion of what is used to what is wanted, with caution about pods that just start or do
not report. Source: "Horizontal Pod Autoscaling: Algorithm details" in the documentation.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kybern.api import scalars
from kybern.api.core_v1 import Pod
from kybern.controllers import pods as pod_facts
from kybern.controllers.horizontalpodautoscaler.metrics import Sample
from kybern.machinery import quantity

INITIAL_READINESS = 30.0  # seconds in which a pod that is not ready yet is taken for one that starts
CPU_INITIALIZATION = 300.0  # seconds in which the CPU used by a pod that is not ready does not count
TOLERANCE = 0.1
Ratio = Callable[[Mapping[str, int]], float]


class NoProposal(ValueError):
    """The metric says nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Ratios this near to 1 change nothing."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replicas, and what was measured: an average amount, for utilization also a percentage."""

    replicas: int
    average: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group(pods: Iterable[Pod], samples: Mapping[str, Sample], resource: str, now: datetime.datetime) -> Groups:
    """Pods by what their samples are worth."""
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for pod in pods:
        name = pod.metadata.name
        sample = samples.get(name)
        if pod.metadata.deletionTimestamp is not None or pod.status.phase in ("Failed", "Succeeded"):
            ignored.add(name)
        elif pod.status.phase == "Pending":
            unready.add(name)
        elif sample is None:
            missing.add(name)
        elif resource == "cpu" and _is_warming_up(pod, sample, now):
            unready.add(name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_warming_up(pod: Pod, sample: Sample, now: datetime.datetime) -> bool:
    """Starting takes more CPU than serving does: do not take it for load."""
    condition = pod_facts.condition_of(pod, "Ready")
    if condition is None or pod.status.startTime is None or condition.lastTransitionTime is None:
        return True
    started = scalars.parse_time(pod.status.startTime)
    changed = scalars.parse_time(condition.lastTransitionTime)
    if (now - started).total_seconds() < CPU_INITIALIZATION:
        measured_before = sample.at is not None and (sample.at - changed).total_seconds() < sample.window
        return condition.status == "False" or measured_before
    # Never ready since it started: what it was in its first moments.
    return condition.status == "False" and (changed - started).total_seconds() < INITIAL_READINESS


def requests_of(pods: Iterable[Pod], resource: str, container: str) -> dict[str, int]:
    """What pods request, by name. Raises NoProposal where a container does not say."""
    found: dict[str, int] = {}
    for pod in pods:
        whole = pod.spec.resources
        if not container and whole is not None and resource in whole.requests:
            found[pod.metadata.name] = quantity.nano(whole.requests[resource])
            continue
        total, seen = 0, False
        sidecars = [c for c in pod.spec.initContainers if c.restartPolicy == "Always"]
        for one in (*pod.spec.containers, *sidecars):
            if container and one.name != container:
                continue
            seen = True
            if resource not in one.resources.requests:
                where = f"container {one.name} of Pod {pod.metadata.name}"
                raise NoProposal(f"missing request for {resource} in {where}")
            total += quantity.nano(one.resources.requests[resource])
        if not seen:
            raise NoProposal(f"container {container} not present in Pod {pod.metadata.name}")
        found[pod.metadata.name] = total
    return found


def by_utilization(
    current: int,
    pods: list[Pod],
    samples: Mapping[str, Sample],
    requests: Mapping[str, int],
    target: int,
    groups: Groups,
    tolerance: Tolerance,
) -> Proposal:
    """To bring the use of what is requested to `target` percent."""
    used = _counted(samples, groups, pods)
    if not used:
        raise NoProposal("did not receive metrics for targeted pods (pods might be unready)")
    utilization = _percent(used, requests)
    average = sum(used.values()) // len(used)
    wanted = {name: requests[name] * target // 100 for name in groups.missing | groups.unready if name in requests}

    def ratio(amounts: Mapping[str, int]) -> float:
        return _percent(amounts, requests) / target

    replicas = _settle(current, used, wanted, groups, ratio, tolerance)
    return Proposal(replicas, average, utilization)


def by_average(
    current: int,
    pods: list[Pod],
    samples: Mapping[str, Sample],
    target: int,
    groups: Groups,
    tolerance: Tolerance,
) -> Proposal:
    """To bring the average of a pod to `target`."""
    used = _counted(samples, groups, pods)
    if not used:
        raise NoProposal("did not receive metrics for targeted pods (pods might be unready)")
    average = sum(used.values()) // len(used)
    wanted = dict.fromkeys(groups.missing | groups.unready, target)

    def ratio(amounts: Mapping[str, int]) -> float:
        return sum(amounts.values()) / len(amounts) / target

    return Proposal(_settle(current, used, wanted, groups, ratio, tolerance), average)


def by_value(current: int, ready: int, value: int, target: int, tolerance: Tolerance) -> Proposal:
    """A metric that is not of the pods, but goes down with their number."""
    ratio = value / target
    if current == 0:
        return Proposal(math.ceil(ratio), value)
    replicas = current if tolerance.covers(ratio) else math.ceil(ratio * ready)
    return Proposal(replicas, value)


def by_share(current: int, value: int, target: int, tolerance: Tolerance) -> Proposal:
    """A metric that is shared among the pods, each of which takes `target`."""
    replicas = math.ceil(value / target)
    if current > 0 and tolerance.covers(value / (target * current)):
        replicas = current
    return Proposal(replicas, -(-value // current) if current > 0 else value)


def _percent(amounts: Mapping[str, int], requests: Mapping[str, int]) -> int:
    asked = sum(requests.get(name, 0) for name in amounts)
    if asked <= 0:
        raise NoProposal("no requests of the pods that have metrics")
    return sum(amounts.values()) * 100 // asked


def _counted(samples: Mapping[str, Sample], groups: Groups, pods: Iterable[Pod]) -> dict[str, int]:
    left_out = groups.ignored | groups.unready | groups.missing
    names = {pod.metadata.name for pod in pods} - left_out
    return {name: sample.value for name, sample in samples.items() if name in names}


def _settle(
    current: int,
    used: Mapping[str, int],
    wanted: Mapping[str, int],
    groups: Groups,
    ratio_of: Ratio,
    tolerance: Tolerance,
) -> int:
    """Replicas by the ratio. What is not known is assumed to damp the change, never to turn it round."""
    ratio = ratio_of(used)
    assumed = dict(used)
    if ratio < 1.0:
        assumed |= {name: wanted[name] for name in groups.missing if name in wanted}
    elif ratio > 1.0:
        assumed |= dict.fromkeys(groups.missing | groups.unready, 0)
    if len(assumed) == len(used):
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    damped = ratio_of(assumed)
    if tolerance.covers(damped) or (ratio < 1.0) != (damped < 1.0):
        return current
    replicas = math.ceil(damped * len(assumed))
    if (damped < 1.0 and replicas > current) or (damped > 1.0 and replicas < current):
        return current
    return replicas
