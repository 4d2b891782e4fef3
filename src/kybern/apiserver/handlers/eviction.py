"""POST pods/eviction: delete a pod unless a PodDisruptionBudget says not now.

The budget's status.disruptionsAllowed is taken from with a precondition, so that two evictions can't both have the
last one. Source: "API-initiated eviction".
"""

from __future__ import annotations

from typing import Any

from kybern.api import codec, scalars
from kybern.api.core_v1 import PodCondition
from kybern.api.meta_v1 import Condition, DeleteOptions, StatusCause
from kybern.api.policy_v1 import Eviction
from kybern.apiserver import negotiate
from kybern.apiserver.admission import Attributes
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import labels
from kybern.machinery.status import ApiError, invalid

_BUDGETS = "poddisruptionbudgets.policy"
_TRIES = 5
_NOT_YET = 10  # seconds until a budget should have been looked at


async def evict(handlers: Handlers, request: Request, pods: Served) -> Response:
    """Status 201. Raises ApiError 404, 429 (the budget is used up), 500 (more than one budget)."""
    accepted = negotiate.choose_plain(request.headers.get("accept", ""))
    eviction = body.decode(request, Eviction, "policy/v1", "Eviction", also="policy/v1beta1")
    info = request.info
    metadata.check_namespace(pods.resource, eviction.metadata, info.namespace)
    if eviction.metadata.name != info.name:
        raise ApiError.bad_request("name in URL does not match name in Eviction object")
    attributes = Attributes(
        operation="CREATE",
        resource=pods.resource,
        subresource="eviction",
        namespace=info.namespace,
        name=info.name,
        object=_placed(eviction, info.namespace, info.name),
        old=None,
        user=request.user,
        dry_run=body.is_dry_run(request),
        warnings=request.warnings,
    )
    waiting = handlers.admit(attributes)
    if waiting is not None:
        await waiting
    assert isinstance(attributes.object, Eviction)
    pod = pods.store.entry(info.namespace, info.name).object
    options = attributes.object.deleteOptions or DeleteOptions()
    _check_options(options, info.name)
    body.check_delete_options(options)
    dry_run = body.is_dry_run(request) or bool(options.dryRun)
    if not _needs_no_budget(pod):
        await _take_from_budget(handlers, pod, dry_run)
    if not dry_run and _holds(options, pod):
        await _say_why(handlers, request, pods)
    write = Write(request.user, dry_run, warnings=request.warnings, options=options, admit=False)
    await pods.store.delete(info.namespace, info.name, options, write)
    return forms.success(accepted)


def _check_options(options: DeleteOptions, name: str) -> None:
    if options.ignoreStoreReadErrorWithClusterBreakingPotential:
        told = "can not be set for pod eviction, try after removing the option"
        field = "deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential"
        raise ApiError.invalid("policy", "Eviction", name, [invalid(field, True, told)])


def _holds(options: DeleteOptions, pod: Any) -> bool:
    """Whether the pod is the one that is meant; if not, the delete says so."""
    wanted = options.preconditions
    return wanted is None or (
        wanted.uid in (None, "", pod.metadata.uid)
        and wanted.resourceVersion in (None, "", pod.metadata.resourceVersion)
    )


def _placed(eviction: Eviction, namespace: str, name: str) -> Eviction:
    eviction.metadata.namespace, eviction.metadata.name = namespace, name
    return eviction


def _needs_no_budget(pod: Any) -> bool:
    """Pods that are done, not started or on their way out disturb nobody."""
    return pod.status.phase in ("Succeeded", "Failed", "Pending") or pod.metadata.deletionTimestamp is not None


async def _say_why(handlers: Handlers, request: Request, pods: Served) -> None:
    """Leave the reason on the pod for whoever counts its failure."""
    now = scalars.render_time(handlers.clock.now())

    def change(current: Entry) -> Any:
        pod = current.decode()
        pod.metadata.resourceVersion = ""
        if pod.status.phase not in ("Succeeded", "Failed"):
            others = [c for c in pod.status.conditions if c.type != "DisruptionTarget"]
            why = PodCondition(
                type="DisruptionTarget",
                status="True",
                reason="EvictionByEvictionAPI",
                message="Eviction API: evicting",
                lastTransitionTime=now,
            )
            pod.status.conditions = [*others, why]
        return pod

    write = Write(request.user, subresource="status", admit=False)
    await pods.store.update(request.info.namespace, request.info.name, change, write)


def _is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


async def _take_from_budget(handlers: Handlers, pod: Any, dry_run: bool) -> None:
    objects = handlers.registry.objects
    for _ in range(_TRIES):
        budgets = [
            b
            for b in objects.list(_BUDGETS, pod.metadata.namespace)
            if labels.from_label_selector(b.spec.selector).matches(pod.metadata.labels)
        ]
        if not budgets:
            return
        if len(budgets) > 1:
            raise ApiError.internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        budget = codec.clone(budgets[0])
        if not _is_ready(pod) and (
            budget.spec.unhealthyPodEvictionPolicy == "AlwaysAllow"
            or budget.status.currentHealthy >= budget.status.desiredHealthy > 0
        ):
            return
        _check_allowed(budget)
        budget.status.disruptionsAllowed -= 1
        now = scalars.Time(scalars.render_time(handlers.clock.now()))
        budget.status.disruptedPods[pod.metadata.name] = now
        if budget.status.disruptionsAllowed == 0:
            budget.status.conditions = _used_up(budget, now)
        if dry_run:
            return
        try:
            await objects.update(_BUDGETS, budget)
            return
        except ApiError as error:
            if not error.is_conflict:
                raise
    raise ApiError.too_many_requests("the disruption budget changes too fast, try again", 10)


def _used_up(budget: Any, now: scalars.Time) -> list[Condition]:
    """The conditions of a budget that allows no more."""
    others = [c for c in budget.status.conditions if c.type != "DisruptionAllowed"]
    before = next((c for c in budget.status.conditions if c.type == "DisruptionAllowed"), None)
    since = before.lastTransitionTime if before is not None and before.status == "False" else now
    generation = budget.status.observedGeneration
    told = Condition(
        type="DisruptionAllowed",
        status="False",
        reason="InsufficientPods",
        lastTransitionTime=since,
        observedGeneration=generation,
    )
    return [*others, told]


def _check_allowed(budget: Any) -> None:
    name = budget.metadata.name
    retry_after = 0
    if (budget.status.observedGeneration or 0) < (budget.metadata.generation or 0):
        retry_after = _NOT_YET
        cause = StatusCause(
            reason="DisruptionBudget", message=f"The disruption budget {name} is still being processed by the server."
        )
    elif budget.status.disruptionsAllowed <= 0:
        needed, found = budget.status.desiredHealthy, budget.status.currentHealthy
        why = f"needs {needed} healthy pods and has {found} currently"
        if found > needed:
            why = "does not allow evicting pods currently"
        cause = StatusCause(reason="DisruptionBudget", message=f"The disruption budget {name} {why}")
    else:
        return
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    raise ApiError.make(429, "TooManyRequests", message, causes=[cause], retry_after=retry_after)
