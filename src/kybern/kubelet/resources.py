"""What a pod asks for and may use: sums over its containers, quality of service, and the runtime's units.

Pure. Read by admission, cgroups, sync/apply, status and the downward API.
Source: "Assign CPU/memory resources", "Pod Quality of Service Classes", "Sidecar containers: resource sharing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kybern.api.core_v1 import Pod, ResourceRequirements
from kybern.api.scalars import Quantity
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract
from kybern.kubelet.podkeys import AnyContainer, Role
from kybern.machinery import quantity

PERIOD = 100_000  # µs of CFS
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000
GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
_COMPUTE = ("cpu", "memory")

Amounts = Mapping[str, Quantity]


def qos_class(pod: Pod) -> str:
    """Computed from the spec; the API server's own answer is in status.qosClass."""
    if pod.spec.resources and (pod.spec.resources.requests or pod.spec.resources.limits):
        return _qos_of([pod.spec.resources])
    return _qos_of([c.resources for c in [*pod.spec.initContainers, *pod.spec.containers]])


def _qos_of(all_requirements: list[ResourceRequirements]) -> str:
    asked = False
    guaranteed = True
    for requirements in all_requirements:
        limits, requests = requirements.limits, requirements.requests
        for name in _COMPUTE:
            limit, request = quantity.nano(limits.get(name, "0")), quantity.nano(requests.get(name, "0"))
            asked = asked or limit > 0 or request > 0
            if limit == 0 or (name in requests and request != limit):
                guaranteed = False
    if not asked:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def _requests_of(requirements: ResourceRequirements) -> Amounts:
    """Requests; a limit without request is one too."""
    return {**requirements.limits, **requirements.requests}


def pod_requests(pod: Pod) -> dict[str, Quantity]:
    """What must be free on a node: the larger of what runs together and of what any init container needs."""
    total = _effective(pod, _requests_of)
    if pod.spec.resources:
        for name, amount in _requests_of(pod.spec.resources).items():
            total[name] = amount
    return quantity.add_maps([total, pod.spec.overhead])


def pod_limits(pod: Pod) -> dict[str, Quantity]:
    """The sum of limits; a resource is missing where some container has none."""
    total = _effective(pod, lambda requirements: requirements.limits)
    for container in [*pod.spec.initContainers, *pod.spec.containers]:
        for name in _COMPUTE:
            if name not in container.resources.limits:
                total.pop(name, None)
    if pod.spec.resources:
        total.update(pod.spec.resources.limits)
    overhead = {name: amount for name, amount in pod.spec.overhead.items() if name in total}
    return quantity.add_maps([total, overhead])


def pod_limits_of(pod: Pod, name: str) -> Quantity | None:
    """The sum of the limits of one resource; None where some container has none."""
    containers = [*pod.spec.initContainers, *pod.spec.containers]
    if not containers or any(name not in c.resources.limits for c in containers):
        return None
    return _effective(pod, lambda requirements: requirements.limits)[name]


def _effective(pod: Pod, pick: Callable[[ResourceRequirements], Amounts]) -> dict[str, Quantity]:
    regular = quantity.add_maps(pick(c.resources) for c in pod.spec.containers)
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in pod.spec.initContainers:
        own = pick(container.resources)
        if podkeys.role_of_init(container) is Role.SIDECAR:
            sidecars = quantity.add_maps([sidecars, own])
            peak = quantity.max_maps([peak, sidecars])
        else:
            peak = quantity.max_maps([peak, quantity.add_maps([sidecars, own])])
    return quantity.max_maps([quantity.add_maps([regular, sidecars]), peak])


def cpu_shares(milli: int) -> int:
    """Weight of cgroup v1; 0 when nothing is asked counts as the least."""
    return min(MAX_SHARES, max(MIN_SHARES, milli * 1024 // 1000)) if milli > 0 else MIN_SHARES


def cpu_quota(milli: int) -> int:
    """µs a period; 0 for no limit."""
    return max(MIN_QUOTA, milli * PERIOD // 1000) if milli > 0 else 0


def oom_score_adj(pod: Pod, container: AnyContainer, memory_capacity: int) -> int:
    """Whom the kernel kills first. Source: "Node-pressure Eviction: node out of memory behavior"."""
    if podkeys.is_critical(pod):
        return -997
    match qos_class(pod):
        case "Guaranteed":
            return -997
        case "BestEffort":
            return 1000
    requests = _requests_of(container.resources)
    if pod.spec.resources and "memory" in _requests_of(pod.spec.resources) and "memory" not in requests:
        count = max(1, len(pod.spec.containers))
        share = quantity.value(_requests_of(pod.spec.resources)["memory"]) // count
    else:
        share = quantity.value(requests.get("memory", "0"))
    adjusted = 1000 - 1000 * share // max(1, memory_capacity)
    if any(container.name == c.name for c in pod.spec.initContainers) and container.restartPolicy == "Always":
        # A sidecar should outlive what it serves: never a likelier victim than the least asking regular container.
        least = min(quantity.value(_requests_of(c.resources).get("memory", "0")) for c in pod.spec.containers)
        adjusted = min(adjusted, 1000 - 1000 * least // max(1, memory_capacity))
    return min(999, max(3, adjusted))


def container_resources(
    pod: Pod, container: AnyContainer, memory_capacity: int, *, unified: bool, cfs_quota: bool = True
) -> contract.Resources:
    """What CreateContainer and UpdateContainerResources get."""
    requests, limits = _requests_of(container.resources), container.resources.limits
    cpu_request = quantity.milli(requests.get("cpu", "0"))
    cpu_limit = quantity.milli(limits.get("cpu", "0"))
    memory = quantity.value(limits.get("memory", "0"))
    pod_level = pod.spec.resources
    if pod_level:
        # Containers without a limit of their own are bounded by the pod's.
        cpu_limit = cpu_limit or quantity.milli(pod_level.limits.get("cpu", "0"))
        memory = memory or quantity.value(pod_level.limits.get("memory", "0"))
    quota = cpu_quota(cpu_limit) if cfs_quota else 0
    pages = tuple(
        (_page_size(name), quantity.value(amount)) for name, amount in limits.items() if name.startswith("hugepages-")
    )
    return contract.Resources(
        cpu_period=PERIOD if cfs_quota else 0,
        cpu_quota=quota,
        cpu_shares=cpu_shares(cpu_request),
        memory_limit=memory,
        oom_score_adj=oom_score_adj(pod, container, memory_capacity),
        hugepage_limits=pages,
        # A container that runs out of memory dies as a whole.
        unified={"memory.oom.group": "1"} if unified else {},
    )


def _page_size(resource: str) -> str:
    """`hugepages-2Mi` as the runtime writes it: `2MB`."""
    size = quantity.value(resource.removeprefix("hugepages-"))
    for unit, shift in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 1 << shift:
            return f"{size >> shift}{unit}"
    return f"{size}B"


def resource_field(
    pod: Pod, container: AnyContainer, resource: str, divisor: str, allocatable: Mapping[str, str]
) -> str:
    """The text of a resourceFieldRef: `limits.cpu` of a container in units of `divisor`, rounded up.

    A limit that is not set is the node's allocatable amount. Raises ValueError for what cannot be selected.
    """
    side, _, name = resource.partition(".")
    if side not in ("limits", "requests") or not (
        name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")
    ):
        raise ValueError(f"unsupported container resource : {resource}")
    amounts = container.resources.limits if side == "limits" else container.resources.requests
    amount: str | None = amounts.get(name)
    if (amount is None or quantity.nano(amount) == 0) and side == "limits" and not name.startswith("hugepages-"):
        pod_level = pod.spec.resources.limits.get(name) if pod.spec.resources else None
        amount = pod_level or allocatable.get(name, "0")
    if amount is None:
        amount = container.resources.limits.get(name, "0") if side == "requests" else "0"
    unit = quantity.nano(divisor) if divisor and quantity.nano(divisor) else quantity.nano("1")
    return str(-(-quantity.nano(amount) // unit))
