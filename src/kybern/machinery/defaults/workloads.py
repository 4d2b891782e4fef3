"""Defaults of apps, batch and ReplicationControllers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api.apps_v1 import (
    DaemonSet,
    Deployment,
    ReplicaSet,
    RollingUpdateDaemonSet,
    RollingUpdateDeployment,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
)
from kybern.api.batch_v1 import CronJob, Job, JobSpec
from kybern.api.core_v1 import PodTemplateSpec, ReplicationController
from kybern.machinery.defaults import core, pods

_INT32_MAX = 2**31 - 1


def _fill_deployment(deployment: Deployment) -> None:
    spec = deployment.spec
    pods.fill_template(spec.template)
    if spec.replicas is None:
        spec.replicas = 1
    strategy = spec.strategy
    strategy.type = strategy.type or "RollingUpdate"
    if strategy.type == "RollingUpdate":
        if strategy.rollingUpdate is None:
            strategy.rollingUpdate = RollingUpdateDeployment()
        rolling = strategy.rollingUpdate
        rolling.maxUnavailable = "25%" if rolling.maxUnavailable is None else rolling.maxUnavailable
        rolling.maxSurge = "25%" if rolling.maxSurge is None else rolling.maxSurge
    if spec.revisionHistoryLimit is None:
        spec.revisionHistoryLimit = 10
    if spec.progressDeadlineSeconds is None:
        spec.progressDeadlineSeconds = 600


def _fill_replica_set(replica_set: ReplicaSet) -> None:
    spec = replica_set.spec
    if spec.template is None:
        spec.template = PodTemplateSpec()
    pods.fill_template(spec.template)
    if spec.replicas is None:
        spec.replicas = 1


def _fill_replication_controller(controller: ReplicationController) -> None:
    spec = controller.spec
    if spec.template is not None:
        pods.fill_template(spec.template)
        labels = spec.template.metadata.labels
        if labels:
            if not spec.selector:
                spec.selector = dict(labels)
            if not controller.metadata.labels:
                controller.metadata.labels = dict(labels)
    if spec.replicas is None:
        spec.replicas = 1


def _fill_daemon_set(daemon_set: DaemonSet) -> None:
    spec = daemon_set.spec
    pods.fill_template(spec.template)
    strategy = spec.updateStrategy
    strategy.type = strategy.type or "RollingUpdate"
    if strategy.type == "RollingUpdate":
        if strategy.rollingUpdate is None:
            strategy.rollingUpdate = RollingUpdateDaemonSet()
        rolling = strategy.rollingUpdate
        rolling.maxUnavailable = 1 if rolling.maxUnavailable is None else rolling.maxUnavailable
        rolling.maxSurge = 0 if rolling.maxSurge is None else rolling.maxSurge
    if spec.revisionHistoryLimit is None:
        spec.revisionHistoryLimit = 10


def _fill_stateful_set(stateful_set: StatefulSet) -> None:
    spec = stateful_set.spec
    pods.fill_template(spec.template)
    spec.podManagementPolicy = spec.podManagementPolicy or "OrderedReady"
    strategy = spec.updateStrategy
    if not strategy.type:
        strategy.type = "RollingUpdate"
    if strategy.type == "RollingUpdate":
        if strategy.rollingUpdate is None:
            strategy.rollingUpdate = RollingUpdateStatefulSetStrategy()
        if strategy.rollingUpdate.partition is None:
            strategy.rollingUpdate.partition = 0
    if spec.persistentVolumeClaimRetentionPolicy is None:
        spec.persistentVolumeClaimRetentionPolicy = StatefulSetPersistentVolumeClaimRetentionPolicy()
    retention = spec.persistentVolumeClaimRetentionPolicy
    retention.whenDeleted = retention.whenDeleted or "Retain"
    retention.whenScaled = retention.whenScaled or "Retain"
    if spec.replicas is None:
        spec.replicas = 1
    if spec.revisionHistoryLimit is None:
        spec.revisionHistoryLimit = 10
    if spec.serviceName is None:
        spec.serviceName = ""
    if spec.ordinals is not None and spec.ordinals.start is None:
        spec.ordinals.start = 0
    for claim in spec.volumeClaimTemplates:
        core.fill_claim(claim)


def fill_job_template(spec: JobSpec) -> None:
    """What a Job and a CronJob's jobTemplate share: only the pod template."""
    pods.fill_template(spec.template)
    policy = spec.podFailurePolicy
    if policy is not None:
        for rule in policy.rules:
            for pattern in rule.onPodConditions:
                pattern.status = pattern.status or "True"


def _fill_job(job: Job) -> None:
    spec = job.spec
    fill_job_template(spec)
    if spec.completions is None and spec.parallelism is None:
        spec.completions = spec.parallelism = 1
    if spec.parallelism is None:
        spec.parallelism = 1
    if spec.backoffLimit is None:
        spec.backoffLimit = 6 if spec.backoffLimitPerIndex is None else _INT32_MAX
    if spec.completionMode is None:
        spec.completionMode = "NonIndexed"
    if spec.suspend is None:
        spec.suspend = False
    if spec.manualSelector is None:
        spec.manualSelector = False
    if spec.podReplacementPolicy is None:
        spec.podReplacementPolicy = "TerminatingOrFailed" if spec.podFailurePolicy is None else "Failed"
    if not job.metadata.labels and spec.template.metadata.labels:
        job.metadata.labels = dict(spec.template.metadata.labels)


def _fill_cron_job(cron_job: CronJob) -> None:
    spec = cron_job.spec
    fill_job_template(spec.jobTemplate.spec)
    spec.concurrencyPolicy = spec.concurrencyPolicy or "Allow"
    if spec.suspend is None:
        spec.suspend = False
    if spec.successfulJobsHistoryLimit is None:
        spec.successfulJobsHistoryLimit = 3
    if spec.failedJobsHistoryLimit is None:
        spec.failedJobsHistoryLimit = 1


DEFAULTS: dict[type[Any], Callable[[Any], None]] = {
    Deployment: _fill_deployment,
    ReplicaSet: _fill_replica_set,
    ReplicationController: _fill_replication_controller,
    DaemonSet: _fill_daemon_set,
    StatefulSet: _fill_stateful_set,
    Job: _fill_job,
    CronJob: _fill_cron_job,
}
