"""Jobs and CronJobs."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from typing import Any

from kybern.api import codec
from kybern.api.batch_v1 import CronJob, Job, JobCondition, JobSpec, PodFailurePolicyRule
from kybern.api.core_v1 import Affinity, PodAffinity, PodAntiAffinity
from kybern.machinery import cron, labels, names
from kybern.machinery.status import (
    FieldError,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from kybern.machinery.validation import pod_spec, replicas, rules, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_MOST_INDEXES = 100_000
_PREFIX = "batch.kubernetes.io/"
_NOT_GENERATED = "`selector` not auto-generated"


def _check_job(job: Job, errors: Errors) -> None:
    _check_generated(job, errors)
    spec = job.spec
    _check_spec(spec, "spec", errors)
    selectors.check_label_selector(spec.selector, "spec.selector", errors)
    if spec.selector is None:
        errors.append(required("spec.selector"))
    matcher = _matcher(spec)
    if matcher is not None and not matcher.matches(spec.template.metadata.labels):
        found = dict(spec.template.metadata.labels) or None
        errors.append(invalid("spec.template.metadata.labels", found, replicas.MISMATCH))
    if spec.completionMode == "Indexed" and spec.completions:
        _check_pod_names(job, spec.completions, errors)


def _matcher(spec: JobSpec) -> labels.Selector | None:
    """None for a selector that is not well-formed."""
    faults: Errors = []
    selectors.check_label_selector(spec.selector, "", faults)
    return None if faults else labels.from_label_selector(spec.selector)


def _check_pod_names(job: Job, completions: int, errors: Errors) -> None:
    """Pods of an indexed Job are named by their index, and the name is their hostname."""
    last = f"{job.metadata.name}-{completions - 1}"
    if names.check_label(last) and not names.check_subdomain(job.metadata.name):
        message = f"will not able to create pod with invalid DNS label: {last}"
        errors.append(invalid("metadata.name", job.metadata.name, message))


def _check_generated(job: Job, errors: Errors) -> None:
    """Selector and labels that the strategy made are as it makes them."""
    spec, meta = job.spec, job.metadata
    if spec.manualSelector or spec.selector is None or _matcher(spec) is None:
        return
    shown = dict(spec.template.metadata.labels)
    path = "spec.template.metadata.labels"
    for key, wanted in (
        ("controller-uid", meta.uid),
        (f"{_PREFIX}controller-uid", meta.uid),
        ("job-name", meta.name),
        (f"{_PREFIX}job-name", meta.name),
    ):
        if key not in shown:
            errors.append(required(f"{path}[{key}]", f"must be '{wanted}'"))
        elif shown[key] != wanted:
            errors.append(invalid(f"{path}[{key}]", shown, f"must be '{wanted}'"))
    own = ({f"{_PREFIX}controller-uid": meta.uid}, {"controller-uid": meta.uid})
    if spec.selector.matchExpressions or spec.selector.matchLabels not in own:
        errors.append(invalid("spec.selector", selectors.rendered(spec.selector), _NOT_GENERATED))


_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")


def _check_spec(spec: JobSpec, path: str, errors: Errors) -> None:
    """What a Job and a CronJob's template share."""
    replicas.check_counts(spec, (*_COUNTS, "backoffLimitPerIndex", "maxFailedIndexes"), path, errors)
    if spec.managedBy is not None:
        _check_managed_by(spec.managedBy, f"{path}.managedBy", errors)
    if spec.completionMode is not None:
        rules.check_choice(spec.completionMode, f"{path}.completionMode", ("NonIndexed", "Indexed"), errors)
    if spec.completionMode == "Indexed":
        _check_indexed(spec, path, errors)
    elif spec.completionMode in (None, "NonIndexed"):
        if spec.backoffLimitPerIndex is not None:
            message = "requires indexed completion mode"
            errors.append(invalid(f"{path}.backoffLimitPerIndex", spec.backoffLimitPerIndex, message))
        if spec.maxFailedIndexes is not None:
            errors.append(
                invalid(f"{path}.maxFailedIndexes", spec.maxFailedIndexes, "requires indexed completion mode")
            )
    if spec.maxFailedIndexes is not None and spec.backoffLimitPerIndex is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.podFailurePolicy is not None:
        _check_failure_policy(spec, f"{path}.podFailurePolicy", errors)
    if spec.successPolicy is not None:
        _check_success_policy(spec, f"{path}.successPolicy", errors)
    if spec.podReplacementPolicy is not None:
        choices = ("Failed",) if spec.podFailurePolicy is not None else ("Failed", "TerminatingOrFailed")
        rules.check_choice(spec.podReplacementPolicy, f"{path}.podReplacementPolicy", choices, errors)
    pod_spec.check_template(spec.template, f"{path}.template", errors)
    restart = spec.template.spec.restartPolicy
    where = f"{path}.template.spec.restartPolicy"
    if restart in ("", None, "Always"):
        errors.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif restart not in ("OnFailure", "Never"):
        errors.append(not_supported(where, restart, ("OnFailure", "Never")))
    elif spec.podFailurePolicy is not None and restart != "Never":
        errors.append(invalid(where, restart, 'only "Never" is supported when podFailurePolicy is specified'))


def _check_managed_by(value: str, path: str, errors: Errors) -> None:
    check_domain_path(value, path, errors)
    if len(value) > 63:
        errors.append(too_long(path, 63))


def check_domain_path(value: str, path: str, errors: Errors) -> None:
    """`acme.io/foo`."""
    domain, slash, rest = value.partition("/")
    if not value:
        errors.append(required(path))
    elif not slash or not domain or not rest:
        errors.append(invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        for message in names.check_subdomain(domain):
            errors.append(invalid(path, domain, message))
        if not re.fullmatch(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", rest):
            message = (
                "a valid path must consist of valid path segments "
                "(e.g. 'foo/bar', regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"
            )
            errors.append(invalid(path, rest, message))


def _check_indexed(spec: JobSpec, path: str, errors: Errors) -> None:
    if spec.completions is None:
        message = "when completion mode is Indexed"
        errors.append(required(f"{path}.completions", message))
    if spec.parallelism is not None and spec.parallelism > _MOST_INDEXES:
        message = f"must be less than or equal to {_MOST_INDEXES} when completion mode is Indexed"
        errors.append(invalid(f"{path}.parallelism", spec.parallelism, message))
    most = spec.maxFailedIndexes
    if most is not None and spec.completions is not None and most > spec.completions:
        errors.append(invalid(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions"))


_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


def _check_failure_policy(spec: JobSpec, path: str, errors: Errors) -> None:
    policy = spec.podFailurePolicy
    assert policy is not None
    path = f"{path}.rules"
    if len(policy.rules) > 20:
        errors.append(too_many(path, len(policy.rules), 20))
    containers = {c.name for c in (*spec.template.spec.containers, *spec.template.spec.initContainers)}
    for i, rule in enumerate(pausing(policy.rules)):
        where = f"{path}[{i}]"
        if not rule.action:
            errors.append(required(f"{where}.action", f"valid values: {_listed(_ACTIONS)}"))
        elif rule.action not in _ACTIONS:
            errors.append(not_supported(f"{where}.action", rule.action, _ACTIONS))
        elif rule.action == "FailIndex" and spec.backoffLimitPerIndex is None:
            errors.append(invalid(f"{where}.action", rule.action, "requires the backoffLimitPerIndex to be set"))
        if rule.onExitCodes is not None:
            _check_exit_codes(rule, containers, f"{where}.onExitCodes", errors)
        if len(rule.onPodConditions) > _MOST_PATTERNS:
            errors.append(too_many(f"{where}.onPodConditions", len(rule.onPodConditions), _MOST_PATTERNS))
        for j, pattern in enumerate(pausing(rule.onPodConditions)):
            at = f"{where}.onPodConditions[{j}]"
            rules.check_rule(pattern.type, f"{at}.type", names.check_qualified, errors)
            if not pattern.status:
                errors.append(required(f"{at}.status", f"valid values: {_listed(('False', 'True', 'Unknown'))}"))
            elif pattern.status not in ("False", "True", "Unknown"):
                errors.append(not_supported(f"{at}.status", pattern.status or "", ("False", "True", "Unknown")))
        if rule.onExitCodes is not None and rule.onPodConditions:
            errors.append(_plainly(where, "specifying both OnExitCodes and OnPodConditions is not supported"))
        elif rule.onExitCodes is None and not rule.onPodConditions:
            errors.append(_plainly(where, "specifying one of OnExitCodes and OnPodConditions is required"))


def _listed(values: Sequence[str]) -> str:
    quoted = " ".join(f'"{v}"' for v in values)
    return f"[{quoted}]"


def _plainly(path: str, detail: str) -> FieldError:
    """Upstream shows no value here."""
    return FieldError("FieldValueInvalid", path, f"Invalid value: {detail}")


def _check_exit_codes(rule: PodFailurePolicyRule, containers: set[str], path: str, errors: Errors) -> None:
    codes = rule.onExitCodes
    assert codes is not None
    if not codes.operator:
        errors.append(required(f"{path}.operator", f"valid values: {_listed(('In', 'NotIn'))}"))
    elif codes.operator not in ("In", "NotIn"):
        errors.append(not_supported(f"{path}.operator", codes.operator, ("In", "NotIn")))
    if codes.containerName is not None and codes.containerName not in containers:
        message = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", codes.containerName, message))
    if not codes.values:
        errors.append(invalid(f"{path}.values", codes.values, "at least one value is required"))
    elif len(codes.values) > 255:
        errors.append(too_many(f"{path}.values", len(codes.values), 255))
    seen: set[int] = set()
    for i, value in enumerate(pausing(codes.values)):
        if codes.operator == "In" and value == 0:
            errors.append(invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(f"{path}.values[{i}]", value))
        seen.add(value)
    if codes.values != sorted(codes.values):
        errors.append(invalid(f"{path}.values", codes.values, "must be ordered"))


def _check_success_policy(spec: JobSpec, path: str, errors: Errors) -> None:
    policy = spec.successPolicy
    assert policy is not None
    if spec.completionMode != "Indexed":
        errors.append(invalid(path, codec.to_json(policy), "requires indexed completion mode"))
        return
    if not policy.rules:
        errors.append(
            required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
        )
    if len(policy.rules) > 20:
        errors.append(too_many(f"{path}.rules", len(policy.rules), 20))
    for i, rule in enumerate(pausing(policy.rules)):
        where = f"{path}.rules[{i}]"
        count, indexes = rule.succeededCount, rule.succeededIndexes
        if count is None and indexes is None:
            errors.append(required(where, "at least one of succeededCount or succeededIndexes must be specified"))
        total = None
        if indexes is not None:
            total = 0
            try:
                total = count_indexes(indexes, spec.completions or 0)
            except ValueError as error:
                message = f"error parsing succeededIndexes: {error}"
                errors.append(invalid(f"{where}.succeededIndexes", indexes, message))
        if count is not None:
            at = f"{where}.succeededCount"
            rules.check_not_negative(count, at, errors)
            if spec.completions is not None and count > spec.completions:
                message = f"must be less than or equal to {spec.completions} (the number of specified completions)"
                errors.append(invalid(at, count, message))
            if total is not None and count > total:
                message = (
                    f"must be less than or equal to {total} "
                    "(the number of indexes in the specified succeededIndexes field)"
                )
                errors.append(invalid(at, count, message))


def count_indexes(text: str, completions: int) -> int:
    """How many indexes "0,2-4" names. Raises ValueError with upstream's words."""
    total, previous = 0, -1
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2:
            message = "violates the requirement that an index interval can have at most two parts separated by '-'"
            raise ValueError(f'the fragment "{part}" {message}')
        numbers = []
        for end in ends:
            if not re.fullmatch(r"[+-]?[0-9]{1,9}", end):
                raise ValueError(f'cannot convert string to integer for index: "{end}"')
            number = int(end)
            if number >= completions:
                raise ValueError(f'too large index: "{end}"')
            if number <= previous:
                raise ValueError(f"non-increasing order, previous: {previous}, current: {number}")
            numbers.append(number)
            previous = number
        total += numbers[-1] - numbers[0] + 1
    return total


_MOST_PATTERNS = 20
_FIXED = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
# While it is suspended and has no pods, how they are scheduled, and what they take, may still change.
_SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")


def _update_job(job: Job, old: Job, errors: Errors) -> None:
    _check_job(job, errors)
    spec, before = job.spec, old.spec
    _check_completions(spec, before, errors)
    _check_template_change(job, old, errors)
    for field in _FIXED:
        value = getattr(spec, field)
        if value != getattr(before, field):
            errors.append(invalid(f"spec.{field}", codec.to_json(value), rules.IMMUTABLE))


def _check_completions(spec: JobSpec, before: JobSpec, errors: Errors) -> None:
    if spec.completions == before.completions:
        return
    if spec.completionMode != "Indexed" or before.completions is None or spec.completions is None:
        errors.append(invalid("spec.completions", spec.completions, rules.IMMUTABLE))
    elif spec.completions != spec.parallelism:
        message = "can only be modified in tandem with spec.parallelism"
        errors.append(invalid("spec.completions", spec.completions, message))


def _check_template_change(job: Job, old: Job, errors: Errors) -> None:
    if rules.is_same(job.spec.template, old.spec.template):
        return
    is_still = old.status.startTime is None or _condition(old, "Suspended") is not None
    if not (old.spec.suspend and is_still and not old.status.active):
        errors.append(invalid("spec.template", codec.to_json(job.spec.template), rules.IMMUTABLE))
        return
    wanted = codec.clone(job.spec.template)
    previous = old.spec.template
    if _between_pods(wanted.spec.affinity) == _between_pods(previous.spec.affinity):  # that to nodes may change
        wanted.spec.affinity = previous.spec.affinity
    for field in _SCHEDULING:
        setattr(wanted.spec, field, getattr(previous.spec, field))
    wanted.metadata.labels, wanted.metadata.annotations = previous.metadata.labels, previous.metadata.annotations
    for field in ("containers", "initContainers"):
        for container, former in zip(getattr(wanted.spec, field), getattr(previous.spec, field), strict=False):
            container.resources = former.resources
    if wanted.spec != previous.spec:
        errors.append(invalid("spec.template.spec", codec.to_json(job.spec.template.spec), rules.IMMUTABLE))


def _between_pods(affinity: Affinity | None) -> tuple[PodAffinity | None, PodAntiAffinity | None]:
    return (affinity.podAffinity, affinity.podAntiAffinity) if affinity is not None else (None, None)


def _condition(job: Job, kind: str) -> JobCondition | None:
    return next((c for c in job.status.conditions if c.type == kind and c.status == "True"), None)


def _check_job_status(job: Job, old: Job, errors: Errors) -> None:
    status, before = job.status, old.status
    replicas.check_counts(status, ("active", "succeeded", "failed", "ready", "terminating"), "status", errors)
    if (status.ready or 0) > (status.active or 0):
        errors.append(invalid("status.ready", status.ready, "cannot set more ready pods than active"))
    complete, failed = _condition(job, "Complete"), _condition(job, "Failed")
    if (complete or failed) and status.startTime is None:
        errors.append(required("status.startTime", "startTime is required for finished job"))
    if complete and status.completionTime is None:
        errors.append(required("status.completionTime", "completionTime is required for Complete jobs"))
    if status.completionTime is not None and not complete:
        message = "cannot set completionTime when there is no Complete=True condition"
        errors.append(invalid("status.completionTime", status.completionTime, message))
    for one, others in (
        (complete, (("Failed", "Failed=true"), ("FailureTarget", "FailureTarget=true"))),
        (failed, ()),
    ):
        for kind, shown in others:
            if one and _condition(job, kind):
                errors.append(_plainly("status.conditions", f"cannot set Complete=True and {shown} conditions"))
    if complete and not _condition(job, "SuccessCriteriaMet"):
        message = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(_plainly("status.conditions", message))
    if failed and not _condition(job, "FailureTarget"):
        message = "cannot set Failed=True condition without the FailureTarget=true condition"
        errors.append(_plainly("status.conditions", message))
    for field in ("failed", "succeeded"):
        if (getattr(status, field) or 0) < (getattr(before, field) or 0):
            errors.append(
                invalid(f"status.{field}", getattr(status, field) or 0, f"cannot decrease the {field} counter")
            )
    if complete or failed:
        if status.active:
            errors.append(invalid("status.active", status.active, "active>0 is invalid for finished job"))
        uncounted = status.uncountedTerminatedPods
        if uncounted is not None and (uncounted.failed or uncounted.succeeded):
            message = "must be empty for finished job"
            errors.append(invalid("status.uncountedTerminatedPods", codec.to_json(uncounted), message))
    if before.startTime is not None and status.startTime != before.startTime and not job.spec.suspend:
        message = "field is immutable for unsuspended job once set"
        errors.append(invalid("status.startTime", status.startTime, message))
    _check_indexes(job, errors)
    _check_uncounted(job, errors)
    for kind in ("Complete", "Failed"):
        if _condition(old, kind) and not _condition(job, kind):
            errors.append(_plainly("status.conditions", f"cannot disable the terminal {kind}=True condition"))


def _check_indexes(job: Job, errors: Errors) -> None:
    """Which indexes are done is told of indexed Jobs only."""
    spec, status = job.spec, job.status
    for field in ("completedIndexes", "failedIndexes"):
        text = getattr(status, field)
        if not text:
            continue
        try:
            count_indexes(text, spec.completions if spec.completions is not None else 2**31)
        except ValueError as error:
            errors.append(invalid(f"status.{field}", text, f"error parsing {field}: {error}"))
    if status.completedIndexes and spec.completionMode != "Indexed":
        message = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid("status.completedIndexes", status.completedIndexes, message))
    if status.failedIndexes is not None and spec.backoffLimitPerIndex is None:
        message = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid("status.failedIndexes", status.failedIndexes, message))


def _check_uncounted(job: Job, errors: Errors) -> None:
    uncounted = job.status.uncountedTerminatedPods
    if uncounted is None:
        return
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for i, uid in enumerate(getattr(uncounted, field)):
            where = f"status.uncountedTerminatedPods.{field}[{i}]"
            if not uid:
                errors.append(invalid(where, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(where, uid))
            seen.add(uid)


def _check_cron_job(cron_job: CronJob, errors: Errors) -> None:
    spec = cron_job.spec
    if len(cron_job.metadata.name) > 52:
        # Eleven characters of the name of a Job are the time it was due.
        errors.append(invalid("metadata.name", cron_job.metadata.name, "must be no more than 52 characters"))
    _check_cron_spec(cron_job, errors)
    selector = spec.jobTemplate.spec.selector
    if selector is not None:
        shown = selectors.rendered(selector)
        errors.append(invalid("spec.jobTemplate.spec.selector", shown, "`selector` will be auto-generated"))
    if spec.jobTemplate.spec.manualSelector:
        where = "spec.jobTemplate.spec.manualSelector"
        errors.append(
            FieldError("FieldValueNotSupported", where, 'Unsupported value: true: supported values: "nil", "false"')
        )


def _update_cron_job(cron_job: CronJob, old: CronJob, errors: Errors) -> None:
    _check_cron_spec(cron_job, errors)


def _check_cron_spec(cron_job: CronJob, errors: Errors) -> None:
    spec = cron_job.spec
    if not spec.schedule:
        errors.append(required("spec.schedule"))
    else:
        _check_schedule(spec.schedule, "spec.schedule", errors)
    if spec.timeZone is not None:
        _check_zone(spec.timeZone, "spec.timeZone", errors)
    replicas.check_counts(
        spec, ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"), "spec", errors
    )
    rules.check_choice(spec.concurrencyPolicy, "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"), errors)
    _check_spec(spec.jobTemplate.spec, "spec.jobTemplate.spec", errors)


def _check_schedule(schedule: str, path: str, errors: Errors) -> None:
    if "TZ" in schedule:
        message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid(path, schedule, message))
        return
    try:
        cron.parse(schedule)
    except ValueError as error:
        errors.append(invalid(path, schedule, str(error)))


def _check_zone(zone: str, path: str, errors: Errors) -> None:
    if not zone:
        errors.append(invalid(path, zone, "timeZone must be nil or non-empty string"))
    elif zone.lower() == "local":
        message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        errors.append(invalid(path, zone, message))
    else:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            errors.append(invalid(path, zone, f"unknown time zone {zone}"))


RULES: dict[type[Any], Rules] = {
    Job: Rules(_check_job, _update_job, _check_job_status),
    CronJob: Rules(_check_cron_job, _update_cron_job),
}
