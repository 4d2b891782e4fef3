"""PodSecurity: namespaces choose, by label, how much their pods may do: privileged, baseline or restricted.

`enforce` refuses pods; `warn` warns about pods and about what makes pods. Changing a namespace to a stricter level
warns about the pods it already has. Source: "Pod Security Admission" in the Kubernetes documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from kybern.api.core_v1 import Namespace, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver import audit
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.pod_security_checks import LATEST, Subject, evaluate
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader
from kybern.machinery import status
from kybern.machinery.status import ApiError, FieldError

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
_MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,3})")
# Where the template of pods is, by kind that makes pods.
_TEMPLATES = {
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
_POD_TARGETS = frozenset({"pods", "pods/ephemeralcontainers"})
_WARNED = 10  # pods named when a namespace becomes stricter
_LOOKED_AT = 3000  # pods looked at then


class PodSecurity(Rule):
    name: str = "PodSecurity"
    targets: ClassVar[frozenset[str] | None] = frozenset({"namespaces", *_POD_TARGETS, *_TEMPLATES})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        # What was decided, by the labels of upstream's metric.
        self.evaluations: dict[tuple[str, ...], int] = {}

    def validate(self, a: Attributes) -> None:
        obj = a.object
        if isinstance(obj, Namespace):
            self._judge_namespace(a, obj)
            return
        namespace = self._reader.get("namespaces", "", a.namespace)
        labels = namespace.metadata.labels if namespace is not None else {}
        if audit.is_on() and isinstance(obj, Pod):
            audit.annotate(f"{PREFIX}enforce-policy", _shown(labels, "enforce").strip('"'))
        if not _is_labelled(labels):
            if isinstance(obj, Pod) and (a.old is None or _matters(obj, a.old)):
                key = _ALLOWED if a.old is None else ("allow", "enforce", "privileged", "latest", *_asked(a))
                self.evaluations[key] = self.evaluations.get(key, 0) + 1
            return
        if isinstance(obj, Pod):
            self._judge_pod(a, obj, labels)
        else:
            self._warn_of_template(a, labels)

    def _judge_pod(self, a: Attributes, pod: Pod, labels: Mapping[str, str]) -> None:
        if a.operation == "UPDATE" and isinstance(a.old, Pod) and not _matters(pod, a.old):
            return
        level, version = _policy(labels, "enforce")
        found = evaluate(level, Subject(pod.metadata, pod.spec, version))
        self._count(a, labels, "enforce", "deny" if found else "allow")
        self._audit(a, labels, pod.metadata, pod.spec)
        if found:
            why = f"violates PodSecurity {_shown(labels, 'enforce')}: {', '.join(str(f) for f in found)}"
            raise forbidden(a, why)
        self._warn(a, labels, pod.metadata, pod.spec)

    def _count(self, a: Attributes, labels: Mapping[str, str], mode: str, decision: str) -> None:
        level, version = _policy(labels, mode)
        key = (decision, mode, level, "latest" if version == LATEST else f"v1.{version}", *_asked(a))
        self.evaluations[key] = self.evaluations.get(key, 0) + 1

    def _judge_namespace(self, a: Attributes, namespace: Namespace) -> None:
        errors = find_faults(namespace.metadata.labels)
        old = a.old.metadata.labels if isinstance(a.old, Namespace) else {}
        if errors:
            # What was wrong before may stay: other changes must go through.
            if a.operation == "CREATE" or find_faults(old) != errors:
                raise ApiError.invalid("", "Namespace", namespace.metadata.name, errors)
            return
        if a.operation != "UPDATE" or not _is_labelled(namespace.metadata.labels):
            return
        level, version = _policy(namespace.metadata.labels, "enforce")
        if level == "privileged" or (level, version) == _policy(old, "enforce"):
            return
        self._warn_of_pods(a, namespace, level, version)

    def _warn_of_pods(self, a: Attributes, namespace: Namespace, level: str, version: int) -> None:
        by_fault: dict[str, list[str]] = {}
        for pod in self._reader.list("pods", namespace.metadata.name)[:_LOOKED_AT]:
            found = evaluate(level, Subject(pod.metadata, pod.spec, version))
            if found:
                by_fault.setdefault(", ".join(f.reason for f in found), []).append(pod.metadata.name)
        if not by_fault:
            return
        shown = _shown(namespace.metadata.labels, "enforce")
        a.warnings.append(
            f'existing pods in namespace "{namespace.metadata.name}" violate the new PodSecurity enforce level {shown}'
        )
        for fault, names in sorted(by_fault.items(), key=lambda item: min(item[1]))[:_WARNED]:
            more = len(names) - 1
            others = f" (and {more} other pod{'s' if more > 1 else ''})" if more else ""
            a.warnings.append(f"{min(names)}{others}: {fault}")

    def _warn(self, a: Attributes, labels: Mapping[str, str], meta: ObjectMeta, spec: PodSpec) -> None:
        level, version = _policy(labels, "warn")
        found = evaluate(level, Subject(meta, spec, version))
        if found:
            self._count(a, labels, "warn", "deny")
            a.warnings.append(f"would violate PodSecurity {_shown(labels, 'warn')}: {', '.join(str(f) for f in found)}")

    def _audit(self, a: Attributes, labels: Mapping[str, str], meta: ObjectMeta, spec: PodSpec) -> None:
        """What the level for audit finds, where there is an audit."""
        if not audit.is_on():
            return
        level, version = _policy(labels, "audit")
        found = evaluate(level, Subject(meta, spec, version))
        if found:
            self._count(a, labels, "audit", "deny")
            shown = f"would violate PodSecurity {_shown(labels, 'audit')}: {', '.join(str(f) for f in found)}"
            audit.annotate(f"{PREFIX}audit-violations", shown)

    def _warn_of_template(self, a: Attributes, labels: Mapping[str, str]) -> None:
        template: Any = a.object
        for field in _TEMPLATES[a.group_resource]:
            template = getattr(template, field, None)
        if template is not None:
            self._audit(a, labels, template.metadata, template.spec)
            self._warn(a, labels, template.metadata, template.spec)


# Of a new pod where nothing is asked for.
_ALLOWED = ("allow", "enforce", "privileged", "latest", "create", "pod", "")


def _asked(a: Attributes) -> tuple[str, str, str]:
    """Operation, pod or what makes pods, and subresource."""
    return a.operation.lower(), "pod" if isinstance(a.object, Pod) else "controller", a.subresource


def find_faults(labels: Mapping[str, str]) -> list[FieldError]:
    """What is wrong with the labels of a namespace."""
    errors = []
    for mode in _MODES:
        level = labels.get(PREFIX + mode)
        if level is not None and level not in LEVELS:
            errors.append(
                status.invalid(f"metadata.labels[{PREFIX}{mode}]", level, f"must be one of {', '.join(LEVELS)}")
            )
        version = labels.get(f"{PREFIX}{mode}-version")
        if version is not None and version != "latest" and not _VERSION.fullmatch(version):
            where = f"metadata.labels[{PREFIX}{mode}-version]"
            errors.append(status.invalid(where, version, 'must be "latest" or "v1.x"'))
    return errors


def _is_labelled(labels: Mapping[str, str]) -> bool:
    return any(PREFIX + mode in labels for mode in _MODES)


def _policy(labels: Mapping[str, str], mode: str) -> tuple[str, int]:
    """(level, minor version). A label that cannot be read counts as the strictest (enforce) or nothing."""
    level = labels.get(PREFIX + mode, "privileged")
    if level not in LEVELS:
        level = "restricted" if mode == "enforce" else "privileged"
    match = _VERSION.fullmatch(labels.get(f"{PREFIX}{mode}-version", ""))
    return level, int(match.group(1)) if match else LATEST


def _shown(labels: Mapping[str, str], mode: str) -> str:
    level, version = _policy(labels, mode)
    return f'"{level}:{"latest" if version == LATEST else f"v1.{version}"}"'


def _matters(new: Pod, old: Pod) -> bool:
    """Whether an update could change a verdict: of a pod's spec only images and ephemeral containers change."""
    if new.spec.ephemeralContainers != old.spec.ephemeralContainers:
        return True
    return [c.securityContext for c in new.spec.containers] != [c.securityContext for c in old.spec.containers]
