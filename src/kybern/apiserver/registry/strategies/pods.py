"""Pods: pending until a kubelet says otherwise, with their quality of service class, and time to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import scalars
from kybern.api.core_v1 import Pod, PodAffinityTerm, PodCondition, PodIP, PodStatus
from kybern.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.machinery import gated, qos
from kybern.machinery.status import FieldError
from kybern.machinery.validation import pods as validation


class Pods(Strategy):
    selected_from = (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIPs",
        "status.podIP",
        "status.nominatedNodeName",
    )

    def prepare_create(self, obj: Any, user: User) -> None:
        pod: Pod = obj
        said = pod.status.qosClass  # upstream believes it
        super().prepare_create(obj, user)
        pod.status = PodStatus(phase="Pending", qosClass=said or None)
        gated.drop_from_pod_spec(pod.spec, None, self.context.gates)
        if pod.spec.schedulingGates:
            pod.status.conditions = [
                PodCondition(
                    type="PodScheduled",
                    status="False",
                    reason="SchedulingGated",
                    message="Scheduling is blocked due to non-empty scheduling gates",
                    lastTransitionTime=scalars.render_time(self.context.clock.now()),
                )
            ]
        _merge_label_keys(pod)

    async def allocate(self, obj: Any, old: Any | None, *, dry_run: bool) -> Callable[[], None] | None:
        # Only now: admission may still have set requests and limits.
        if old is None:
            obj.status.qosClass = obj.status.qosClass or qos.class_of(obj)
        return None

    def prepare_update(self, obj: Any, old: Any) -> None:
        gated.drop_from_pod_spec(obj.spec, old.spec, self.context.gates)
        super().prepare_update(obj, old)

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        obj.metadata.ownerReferences = old.metadata.ownerReferences
        status: PodStatus = obj.status
        status.qosClass = status.qosClass or old.status.qosClass
        gated.drop_from_pod_status(status, old.status)
        # The one address is what older kubelets write; it goes before the list.
        if status.podIP and (not status.podIPs or status.podIPs[0].ip != status.podIP):
            status.podIPs = [PodIP(ip=status.podIP)]
        elif status.podIPs and not status.podIP:
            status.podIP = status.podIPs[0].ip or None

    def prepare_ephemeralcontainers_update(self, obj: Any, old: Any) -> None:
        """Only the ephemeral containers of the body count."""
        added = obj.spec.ephemeralContainers
        _keep(obj, old)
        obj.spec.ephemeralContainers = added
        self._bump_generation(obj, old)

    def validate_ephemeralcontainers_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_subresource(obj, old, "ephemeralcontainers")

    def prepare_resize_update(self, obj: Any, old: Any) -> None:
        """Only resources and resize policies of the body count; other containers than there are, are refused later."""
        wanted = obj.spec
        _keep(obj, old)
        for field in ("containers", "initContainers"):
            if len(getattr(wanted, field)) != len(getattr(obj.spec, field)):
                setattr(obj.spec, field, getattr(wanted, field))
                continue
            by_name = {c.name: c for c in getattr(wanted, field)}
            for container in getattr(obj.spec, field):
                if container.name in by_name:
                    container.resources = by_name[container.name].resources
                    container.resizePolicy = by_name[container.name].resizePolicy
        obj.spec.resources = wanted.resources
        self._bump_generation(obj, old)

    def validate_resize_update(self, obj: Any, old: Any) -> list[FieldError]:
        return validation.validate_subresource(obj, old, "resize")

    is_graceful = True

    def graceful_seconds(self, obj: Any, asked: int | None) -> int:
        """What was asked for, or the pod's own period; none for a pod that no kubelet has or that has ended."""
        pod: Pod = obj
        period = asked if asked is not None else pod.spec.terminationGracePeriodSeconds
        if not pod.spec.nodeName or pod.status.phase in ("Failed", "Succeeded"):
            return 0
        seconds = 0 if period is None else period
        return 1 if seconds < 0 else seconds

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        pod: Pod = obj
        spec, status = pod.spec, pod.status
        return super().selectable_fields(obj) | {
            "spec.nodeName": spec.nodeName or "",
            "spec.restartPolicy": spec.restartPolicy or "",
            "spec.schedulerName": spec.schedulerName or "",
            "spec.serviceAccountName": spec.serviceAccountName or "",
            "spec.hostNetwork": "true" if spec.hostNetwork else "false",
            "status.phase": status.phase or "",
            "status.podIP": (status.podIPs[0].ip if status.podIPs else status.podIP) or "",
            "status.nominatedNodeName": status.nominatedNodeName or "",
        }


def _keep(obj: Pod, old: Pod) -> None:
    from kybern.api import codec

    obj.spec = codec.clone(old.spec)
    obj.status = old.status
    obj.metadata.generation = old.metadata.generation
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        setattr(obj.metadata, field, getattr(old.metadata, field))


def _merge_label_keys(pod: Pod) -> None:
    """matchLabelKeys name labels of this very pod: their values join the selectors."""
    labels = pod.metadata.labels
    affinity = pod.spec.affinity
    if affinity is not None:
        for group in (affinity.podAffinity, affinity.podAntiAffinity):
            if group is not None:
                terms = [*group.requiredDuringSchedulingIgnoredDuringExecution]
                terms += [w.podAffinityTerm for w in group.preferredDuringSchedulingIgnoredDuringExecution]
                for term in terms:
                    _merge_term(term, labels)
    for constraint in pod.spec.topologySpreadConstraints:
        if constraint.labelSelector is not None:
            _merge(constraint.labelSelector, constraint.matchLabelKeys, "In", labels)


def _merge_term(term: PodAffinityTerm, labels: dict[str, str]) -> None:
    if term.labelSelector is not None:
        _merge(term.labelSelector, term.matchLabelKeys, "In", labels)
        _merge(term.labelSelector, term.mismatchLabelKeys, "NotIn", labels)


def _merge(selector: LabelSelector, keys: list[str], operator: str, labels: dict[str, str]) -> None:
    for key in keys:
        if key in labels:
            selector.matchExpressions.append(LabelSelectorRequirement(key=key, operator=operator, values=[labels[key]]))
