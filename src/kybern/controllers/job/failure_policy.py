"""What a job's podFailurePolicy says of a failed pod. Pure. The first rule that matches counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kybern.api.batch_v1 import Job, PodFailurePolicyRule
from kybern.api.core_v1 import ContainerStatus, Pod

FAIL_JOB, IGNORE, COUNT, FAIL_INDEX = "FailJob", "Ignore", "Count", "FailIndex"


@dataclass(frozen=True, slots=True)
class Match:
    """`action` is COUNT where no rule matches; `message` tells why a job failed."""

    action: str = COUNT
    message: str = ""


def judge(job: Job, pod: Pod) -> Match:
    """The policy's word on a failed pod."""
    policy = job.spec.podFailurePolicy
    if policy is None:
        return Match()
    for number, rule in enumerate(policy.rules):
        what = _exit_code_match(rule, pod) if rule.onExitCodes is not None else _condition_match(rule, pod)
        if what:
            return Match(rule.action, f"{what} matching {rule.action} rule at index {number}")
    return Match()


def _exit_code_match(rule: PodFailurePolicyRule, pod: Pod) -> str:
    requirement = rule.onExitCodes
    assert requirement is not None
    for status in _statuses(pod):
        ended = status.state.terminated
        if ended is None or ended.exitCode == 0:
            continue
        if requirement.containerName and requirement.containerName != status.name:
            continue
        if (ended.exitCode in requirement.values) == (requirement.operator == "In"):
            where = f"{pod.metadata.namespace}/{pod.metadata.name}"
            return f"Container {status.name} for pod {where} failed with exit code {ended.exitCode}"
    return ""


def _condition_match(rule: PodFailurePolicyRule, pod: Pod) -> str:
    for pattern in rule.onPodConditions:
        for condition in pod.status.conditions:
            if condition.type == pattern.type and condition.status == (pattern.status or "True"):
                return f"Pod {pod.metadata.namespace}/{pod.metadata.name} has condition {condition.type}"
    return ""


def _statuses(pod: Pod) -> Iterable[ContainerStatus]:
    return (*pod.status.containerStatuses, *pod.status.initContainerStatuses)
