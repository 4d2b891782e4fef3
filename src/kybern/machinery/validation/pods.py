"""Pods: new ones, updates of each of their subresources, and pod templates."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import (
    Container,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    PodTemplate,
    ResourceRequirements,
    Toleration,
)
from kybern.machinery import qos, scheme
from kybern.machinery.status import FieldError, forbidden_field, invalid, required
from kybern.machinery.validation import containers, metadata, pod_spec, pod_status, rules, volumes
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_INT32_MAX = 2**31 - 1
_ONLY = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _check_pod(pod: Pod, errors: Errors) -> None:
    pod_spec.check(pod.spec, "spec", errors, is_pod=True)
    if pod.spec.volumes:
        volumes.check_pod_only(pod.spec, pod.metadata.name or "", "spec.volumes", errors)


def check_create(pod: Pod, errors: Errors) -> None:
    _check_pod(pod, errors)
    if pod.spec.ephemeralContainers:
        errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if pod.spec.nodeName and pod.spec.schedulingGates:
        errors.append(forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))


def check_update(pod: Pod, old: Pod, errors: Errors) -> None:
    """The main resource: images, deadline, tolerations, gates; everything else is fixed."""
    if pod.spec == old.spec:
        return
    _check_pod(pod, errors)
    spec, before = pod.spec, old.spec
    if len(spec.containers) != len(before.containers):
        errors.append(forbidden_field("spec.containers", "pod updates may not add or remove containers"))
        return
    if len(spec.initContainers) != len(before.initContainers):
        errors.append(forbidden_field("spec.initContainers", "pod updates may not add or remove containers"))
        return
    told = len(errors)
    _check_deadline(spec, before, errors)
    if len(errors) > told:
        return
    if not _extends(spec.tolerations, before.tolerations):
        message = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(forbidden_field("spec.tolerations", message))
    _check_gates(spec, before, errors)
    if before.schedulingGates:
        _check_gated(spec, before, errors)
    as_before = _mutable_parts_as_before(pod, old)
    if as_before != before and not rules.is_same(as_before, before):
        errors.append(forbidden_field("spec", f"{_ONLY}\n{_diff(pod, old)}"))


def _check_deadline(spec: PodSpec, before: PodSpec, errors: Errors) -> None:
    new, old = spec.activeDeadlineSeconds, before.activeDeadlineSeconds
    where = "spec.activeDeadlineSeconds"
    if new is not None:
        if new < 0 or new > _INT32_MAX:
            errors.append(invalid(where, new, rules.in_range(0, _INT32_MAX)))
        elif old is not None and old < new:
            errors.append(invalid(where, new, "must be less than or equal to previous value"))
    elif old is not None:
        errors.append(invalid(where, new, "must not update from a positive integer to nil value"))


def _extends(new: list[Toleration], old: list[Toleration]) -> bool:
    """Every old toleration is still there, but for its seconds."""
    kept = {(t.key, t.operator, t.value, t.effect) for t in new}
    return all((t.key, t.operator, t.value, t.effect) in kept for t in old)


def _check_gates(spec: PodSpec, before: PodSpec, errors: Errors) -> None:
    known = {g.name for g in before.schedulingGates}
    places = {gate.name: i for i, gate in enumerate(pausing(spec.schedulingGates))}  # one named twice: the last
    for name, i in places.items():
        if name not in known:
            message = f"only deletion is allowed, but found new scheduling gate '{name}'"
            errors.append(forbidden_field(f"spec.schedulingGates[{i}].name", message))


def _required_terms(spec: PodSpec) -> list[NodeSelectorTerm]:
    node = spec.affinity.nodeAffinity if spec.affinity is not None else None
    wanted = node.requiredDuringSchedulingIgnoredDuringExecution if node is not None else None
    return wanted.nodeSelectorTerms if wanted is not None else []


def _check_gated(spec: PodSpec, before: PodSpec, errors: Errors) -> None:
    """While gated, a pod may be told to run on fewer nodes, never on others."""
    if any(spec.nodeSelector.get(key) != value for key, value in before.nodeSelector.items()):
        message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", spec.nodeSelector, message))
    path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    old_terms, terms = _required_terms(before), _required_terms(spec)
    if not old_terms:
        return
    if len(terms) != len(old_terms):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(invalid(path, codec.to_json(terms) or None, message))
        return
    for i, (term, old_term) in enumerate(zip(terms, old_terms, strict=True)):
        kept = all(e in term.matchExpressions for e in old_term.matchExpressions) and all(
            f in term.matchFields for f in old_term.matchFields
        )
        if not kept or (not (old_term.matchExpressions or old_term.matchFields) and term != old_term):
            message = "only additions are allowed (no mutations or deletions)"
            errors.append(invalid(f"{path}[{i}]", codec.to_json(term), message))


def _mutable_parts_as_before(pod: Pod, old: Pod) -> PodSpec:
    """The new spec with everything that may change put back: equal to the old one if nothing else did."""
    spec, before = codec.clone(pod.spec), old.spec
    for field in ("containers", "initContainers"):
        for container, previous in zip(getattr(spec, field), getattr(before, field), strict=True):
            container.image = previous.image
    spec.activeDeadlineSeconds = before.activeDeadlineSeconds
    spec.tolerations = before.tolerations
    spec.schedulingGates = before.schedulingGates
    if (before.terminationGracePeriodSeconds or 0) < 0 and spec.terminationGracePeriodSeconds == 1:
        spec.terminationGracePeriodSeconds = before.terminationGracePeriodSeconds
    if before.schedulingGates:
        spec.nodeSelector = before.nodeSelector
        _restore_node_affinity(spec, before)
    return spec


def _restore_node_affinity(spec: PodSpec, before: PodSpec) -> None:
    old_affinity = before.affinity
    if old_affinity is None:
        affinity = spec.affinity
        if affinity is not None and affinity.podAffinity is None and affinity.podAntiAffinity is None:
            spec.affinity = None
        return
    if spec.affinity is None:
        spec.affinity = old_affinity
    else:
        spec.affinity.nodeAffinity = old_affinity.nodeAffinity


def _diff(pod: Pod, old: Pod) -> str:
    def lines(spec: PodSpec) -> list[str]:
        return msgspec.json.format(codec.encode(spec), indent=1).decode().splitlines()

    found = list(difflib.unified_diff(lines(old.spec), lines(_mutable_parts_as_before(pod, old)), lineterm="", n=2))
    return "\n".join(found[2:]) + "\n"


def check_ephemeral_update(pod: Pod, old: Pod, errors: Errors) -> None:
    """The ephemeralcontainers subresource: containers are added, never changed or taken away."""
    _check_pod(pod, errors)
    if old.metadata.annotations.get("kubernetes.io/config.mirror"):
        errors.append(forbidden_field("", "static pods do not support ephemeral containers"))
    new = {c.name: c for c in pod.spec.ephemeralContainers}
    for i, previous in enumerate(pausing(old.spec.ephemeralContainers)):
        where = f"spec.ephemeralContainers[{i}]"
        current = new.get(previous.name)
        if current is None:
            message = f'existing ephemeral containers "{previous.name}" may not be removed\n'
            errors.append(forbidden_field("spec.ephemeralContainers", message))
        elif current != previous:
            message = f'existing ephemeral containers "{previous.name}" may not be changed\n'
            errors.append(forbidden_field(where, message))


_RESIZABLE = ("cpu", "memory")


def check_resize(pod: Pod, old: Pod, errors: Errors) -> None:
    """The resize subresource: cpu and memory of containers, without a change of QoS class."""
    if pod.metadata.annotations.get("kubernetes.io/config.mirror"):
        errors.append(forbidden_field("", "static pods cannot be resized"))
    if pod.spec.os is not None and pod.spec.os.name == "windows":
        errors.append(forbidden_field("[]", "windows pods cannot be resized"))
        return
    _check_pod(pod, errors)
    if old.status.qosClass and qos.class_of(pod) != qos.class_of(old):
        message = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid("spec", qos.class_of(old), message))
    before = len(errors)
    for field in ("containers", "initContainers"):
        if len(getattr(pod.spec, field)) != len(getattr(old.spec, field)):
            errors.append(forbidden_field(f"spec.{field}", f"{field} may not be added or removed on resize"))
    is_other = len(errors) > before
    if pod.spec.resources is None and old.spec.resources is not None:
        errors.append(forbidden_field("spec.resources", "pod-level resources cannot be removed"))
    if is_other:
        return
    for field in ("containers", "initContainers"):
        pairs = zip(getattr(pod.spec, field), getattr(old.spec, field), strict=False)
        for i, (container, previous) in enumerate(pairs):
            _check_resized(container.resources, previous.resources, f"spec.{field}[{i}].resources", errors)
    _check_only_resizable(pod.spec, old.spec, errors)


def _check_only_resizable(spec: PodSpec, before: PodSpec, errors: Errors) -> None:
    """What is not cpu or memory stays as it was."""
    now, then = _without_resizable(spec), _without_resizable(before)
    for i, (container, previous) in enumerate(zip(now.initContainers, then.initContainers, strict=False)):
        if container.resources != previous.resources:
            message = "only cpu and memory resources for init or sidecar containers are mutable"
            errors.append(forbidden_field(f"spec.initContainers[{i}]", message))
            container.resources = previous.resources
    if now.resources is None:
        now.resources = then.resources  # if it was there, that was told already
    if then.resources is None:
        then.resources = ResourceRequirements()
    if now.resources is None:
        now.resources = then.resources
    if now.resources != then.resources:
        errors.append(forbidden_field("spec", "only cpu and memory resources are mutable at pod-level"))
        now.resources = then.resources
    # Upstream loses sight of the new claims of containers here: a pod that has some cannot be resized.
    for container in now.containers:
        container.resources.claims = []
    if now != then:
        errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))


def _check_resized(new: ResourceRequirements, old: ResourceRequirements, path: str, errors: Errors) -> None:
    for kind in ("requests", "limits"):
        removed = [n for n in _RESIZABLE if n in getattr(old, kind) and n not in getattr(new, kind)]
        if removed:
            errors.append(forbidden_field(f"{path}.{kind}", f"resource {kind} cannot be removed"))


def _without_resizable(spec: PodSpec) -> PodSpec:
    copy = codec.clone(spec)
    everyone: Iterable[Container] = (*copy.containers, *copy.initContainers)
    holders = [c.resources for c in everyone] + ([copy.resources] if copy.resources is not None else [])
    for requirements in holders:
        for name in _RESIZABLE:
            requirements.requests.pop(name, None)
            requirements.limits.pop(name, None)
    return copy


def _check_pod_template(template: PodTemplate, errors: Errors) -> None:
    if template.template is None:
        errors.append(required("template.spec.containers"))
    else:
        pod_spec.check_template(template.template, "template", errors)


def validate_subresource(pod: Pod, old: Pod, subresource: str) -> list[FieldError]:
    """Updates of `ephemeralcontainers` and `resize`."""
    checks: dict[str, Callable[[Pod, Pod, Errors], None]] = {
        "ephemeralcontainers": check_ephemeral_update,
        "resize": check_resize,
    }
    errors: Errors = []
    metadata.check_update(pod.metadata, old.metadata, scheme.resource_of(Pod), errors)
    checks[subresource](pod, old, errors)
    return list(dict.fromkeys(errors))


RULES: dict[type[Any], Rules] = {
    Pod: Rules(create=check_create, update=check_update, status=pod_status.check),
    PodTemplate: Rules(create=_check_pod_template),
}

__all__ = ["RULES", "containers", "validate_subresource"]
