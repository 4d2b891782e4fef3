"""What of a Job's template may change, and when: as a v1.36 API server answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kybern.api import codec
from kybern.api.batch_v1 import Job, JobCondition, JobSpec, JobStatus
from kybern.api.core_v1 import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.scalars import Quantity, Time
from kybern.machinery import defaults, validation

START = Time("2026-01-01T00:00:00Z")
SUSPENDED = JobCondition(type="Suspended", status="True", lastTransitionTime=START)
RESUMED = JobCondition(type="Suspended", status="False", lastTransitionTime=START)


def job(status: JobStatus, *, suspend: bool = True) -> Job:
    pod = PodSpec(restartPolicy="Never", containers=[Container(name="c", image="i")])
    labels = {"a": "b"}
    template = PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=pod)
    spec = JobSpec(suspend=suspend, template=template, selector=LabelSelector(matchLabels=labels), manualSelector=True)
    made = Job(metadata=ObjectMeta(name="j", namespace="ns", uid="u", resourceVersion="1"), spec=spec, status=status)
    defaults.apply(made)
    return made


def faults(old: Job, change: Callable[[PodTemplateSpec], None]) -> list[str]:
    new = codec.clone(old)
    change(new.spec.template)
    return [error.field for error in validation.validate_update(new, old)]


def take_more(template: PodTemplateSpec) -> None:
    template.spec.containers[0].resources = ResourceRequirements(requests={"cpu": Quantity("2")})


@pytest.mark.parametrize(
    ("status", "suspend", "may_change"),
    [
        (JobStatus(), True, True),
        (JobStatus(active=1), True, False),
        (JobStatus(startTime=START), True, False),
        (JobStatus(startTime=START, conditions=[SUSPENDED]), True, True),
        (JobStatus(startTime=START, conditions=[RESUMED]), True, False),
        (JobStatus(startTime=START, conditions=[SUSPENDED], active=1), True, False),
        (JobStatus(startTime=START, conditions=[SUSPENDED], terminating=1), True, True),
        (JobStatus(startTime=START), False, False),
    ],
)
def test_a_template_may_change_while_its_job_stands_still(status: JobStatus, suspend: bool, may_change: bool) -> None:
    assert faults(job(status, suspend=suspend), take_more) == ([] if may_change else ["spec.template"])


def test_where_pods_go_may_change_but_not_what_they_are() -> None:
    def to_nodes(template: PodTemplateSpec) -> None:
        term = NodeSelectorTerm(matchExpressions=[NodeSelectorRequirement(key="a", operator="Exists")])
        required = NodeSelector(nodeSelectorTerms=[term])
        nodes = NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required)
        template.spec.affinity = Affinity(nodeAffinity=nodes)

    def to_pods(template: PodTemplateSpec) -> None:
        term = PodAffinityTerm(topologyKey="a", labelSelector=LabelSelector(matchLabels={"a": "b"}))
        pods = PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=[term])
        template.spec.affinity = Affinity(podAffinity=pods)

    def another_image(template: PodTemplateSpec) -> None:
        template.spec.containers[0].image = "other"

    still = job(JobStatus())
    assert faults(still, to_nodes) == []
    assert faults(still, to_pods) == ["spec.template.spec"]
    assert faults(still, another_image) == ["spec.template.spec"]
