"""Priority: turn a pod's class into its priority; keep one default class; leave the system's names to the system.

Source: "Pod Priority and Preemption" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import Pod
from kybern.api.scheduling_v1 import PriorityClass
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader

CLASSES = "priorityclasses.scheduling.k8s.io"
PREEMPT = "PreemptLowerPriority"


class PriorityAdmission(Rule):
    name: str = "Priority"
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods", CLASSES})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._found: PriorityClass | None = None  # the default, at a version of the classes
        self._found_at = -1

    def admit(self, a: Attributes) -> None:
        pod = a.object
        if not isinstance(pod, Pod) or a.operation != "CREATE":
            return
        priority, policy = self._resolve(a, pod)
        if pod.spec.priority is not None and pod.spec.priority != priority:
            raise forbidden(
                a,
                f"the integer value of priority ({pod.spec.priority}) must not be provided in pod spec; "
                f"priority admission controller computed {priority} from the given PriorityClass name",
            )
        if pod.spec.preemptionPolicy is not None and pod.spec.preemptionPolicy != policy:
            raise forbidden(
                a,
                f"the string value of PreemptionPolicy ({pod.spec.preemptionPolicy}) must not be provided in pod "
                f"spec; priority admission controller computed {policy} from the given PriorityClass name",
            )
        pod.spec.priority = priority
        pod.spec.preemptionPolicy = policy

    def validate(self, a: Attributes) -> None:
        wanted = a.object
        if not isinstance(wanted, PriorityClass) or not wanted.globalDefault:
            return
        default = self._default()
        if default is not None and default.metadata.name != wanted.metadata.name:
            raise forbidden(
                a,
                f"PriorityClass {default.metadata.name} is already marked as default. Only one default can exist",
            )

    def _resolve(self, a: Attributes, pod: Pod) -> tuple[int, str]:
        name = pod.spec.priorityClassName
        if not name:
            found = self._default()
            if found is None:
                return 0, PREEMPT
            pod.spec.priorityClassName = found.metadata.name
        else:
            found = self._reader.get(CLASSES, "", name)
            if found is None:
                raise forbidden(a, f"no PriorityClass with name {name} was found")
        return found.value or 0, found.preemptionPolicy or PREEMPT

    def _default(self) -> PriorityClass | None:
        """Should there be several (two servers, one moment), the lowest counts: nobody is lifted by accident."""
        version = self._reader.version(CLASSES)
        if version != self._found_at:
            defaults = [c for c in self._reader.list(CLASSES) if c.globalDefault]
            self._found = min(defaults, key=lambda c: c.value or 0) if defaults else None
            self._found_at = version
        return self._found
