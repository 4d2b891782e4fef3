"""Look at a workload's metrics every few seconds, and set its scale.

Woken by autoscalers and by time. The workload is reached only through its scale subresource, so that any kind that
has one can be scaled, custom ones too. Several metrics: the one that asks for most wins; one that cannot be read
stops scaling down, not up.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.autoscaling_v2 import HorizontalPodAutoscaler, MetricSpec
from kybern.api.core_v1 import Pod
from kybern.api.resource import Resource
from kybern.client import rest, shapes
from kybern.controllers import runtime
from kybern.controllers.horizontalpodautoscaler import pace, proposal, report
from kybern.controllers.horizontalpodautoscaler.metrics import Metrics, Sample
from kybern.controllers.horizontalpodautoscaler.proposal import NoProposal, Proposal
from kybern.controllers.horizontalpodautoscaler.report import ABLE, ACTIVE, LIMITED, Report
from kybern.machinery import labels, quantity, scheme
from kybern.machinery.labels import Selector
from kybern.machinery.status import ApiError

NAME = "horizontal-pod-autoscaler-controller"
_FAILURES = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}


class Scale:
    """A workload as its scale subresource shows it."""

    def __init__(self, path: str, value: dict[str, Any]) -> None:
        self.path = path
        self.value = value

    @property
    def wanted(self) -> int:
        return int(self.value.get("spec", {}).get("replicas") or 0)

    @property
    def current(self) -> int:
        return int(self.value.get("status", {}).get("replicas") or 0)

    @property
    def selector(self) -> str:
        return str(self.value.get("status", {}).get("selector") or "")


class Autoscaler(runtime.Looped):
    """runtime.Controller; keys are those of autoscalers."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder("horizontal-pod-autoscaler")
        self._autoscalers = context.informers.of(HorizontalPodAutoscaler)
        self._pods = context.informers.of(Pod)
        self._metrics = Metrics(context.client)
        self._memories: dict[str, pace.Memory] = {}  # by uid
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        self._autoscalers.on_change(self._changed)

    def _changed(self, old: HorizontalPodAutoscaler | None, new: HorizontalPodAutoscaler | None) -> None:
        if new is None:
            if old is not None:
                self._memories.pop(old.metadata.uid, None)
        elif old is None or old.spec != new.spec:
            self.loop.queue.add(shapes.key_of(new))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        autoscaler = self._autoscalers.by_key(key)
        if autoscaler is None or autoscaler.metadata.deletionTimestamp is not None:
            return None
        told = Report(autoscaler, self._context.clock.now())
        await self._turn(autoscaler, told)
        if told.status != autoscaler.status:
            fresh = codec.clone(autoscaler)
            fresh.status = told.status
            await self._context.update_status(fresh)
        return runtime.RequeueAfter(self._context.settings.horizontal_pod_autoscaler_sync_period)

    async def _turn(self, autoscaler: HorizontalPodAutoscaler, told: Report) -> None:
        try:
            scale = await self._scale_of(autoscaler)
        except ApiError as error:
            told.say(
                ABLE,
                False,
                "FailedGetScale",
                f"the HPA controller was unable to get the target's current scale: {error}",
            )
            self._recorder.event(autoscaler, "Warning", "FailedGetScale", str(error))
            return
        told.say(ABLE, True, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        told.status.currentReplicas = scale.current
        wanted, why = await self._wanted(autoscaler, scale, told)
        if wanted is None:
            return
        told.sizes(scale.current, wanted)
        if wanted != scale.wanted:
            await self._rescale(autoscaler, scale, wanted, why, told)

    async def _wanted(self, autoscaler: HorizontalPodAutoscaler, scale: Scale, told: Report) -> tuple[int | None, str]:
        """Replicas to have, and why; None if that cannot be known now."""
        spec = autoscaler.spec
        lowest = 1 if spec.minReplicas is None else spec.minReplicas
        if scale.wanted == 0 and lowest != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            told.say(ACTIVE, False, "ScalingDisabled", message)
            return 0, ""
        if scale.wanted > spec.maxReplicas:
            return spec.maxReplicas, "Current number of replicas above Spec.MaxReplicas"
        if scale.wanted < lowest:
            return lowest, "Current number of replicas below Spec.MinReplicas"
        found = await self._judge_all(autoscaler, scale, told)
        if found is None:
            return None, ""
        asked, name = found
        memory = self._memories.setdefault(autoscaler.metadata.uid, pace.Memory())
        paced = pace.pace(spec, memory, scale.wanted, asked, self._context.clock.monotonic())
        told.paced(paced)
        if paced.replicas > scale.wanted:
            return paced.replicas, f"{name} above target"
        return paced.replicas, "All metrics below target" if paced.replicas < scale.wanted else ""

    async def _judge_all(
        self, autoscaler: HorizontalPodAutoscaler, scale: Scale, told: Report
    ) -> tuple[int, str] | None:
        if not scale.selector:
            message = "the HPA target's scale is missing a selector"
            told.say(ACTIVE, False, "InvalidSelector", message)
            self._recorder.event(autoscaler, "Warning", "SelectorRequired", message)
            return None
        try:
            selector = labels.parse_selector(scale.selector)
        except ValueError as error:
            message = f"couldn't convert selector into a corresponding internal selector object: {error}"
            told.say(ACTIVE, False, "InvalidSelector", message)
            return None
        found: list[tuple[int, str]] = []
        failures: list[tuple[str, str]] = []
        told.status.currentMetrics = []
        for metric in autoscaler.spec.metrics:
            try:
                judged = await self._judge(autoscaler, metric, scale, selector)
            except (ApiError, NoProposal) as error:
                reason = _FAILURES.get(metric.type, "InvalidMetricSourceType")
                failures.append((reason, f"failed to get {report.name_of(metric)}: {error}"))
                continue
            found.append((judged.replicas, report.name_of(metric)))
            told.status.currentMetrics.append(report.measured(metric, judged))
        best = max(found, key=lambda one: one[0], default=None)
        if failures and (best is None or best[0] < scale.wanted):
            reason, message = failures[0]
            told.say(ACTIVE, False, reason, f"the HPA was unable to compute the replica count: {message}")
            self._recorder.event(autoscaler, "Warning", reason, message)
            return None
        if best is None:
            told.drop(LIMITED)
            return None
        told.say(
            ACTIVE, True, "ValidMetricFound",
            f"the HPA was able to successfully calculate a replica count from {best[1]}",
        )  # fmt: skip
        return best

    async def _judge(
        self, autoscaler: HorizontalPodAutoscaler, metric: MetricSpec, scale: Scale, selector: Selector
    ) -> Proposal:
        """Replicas by one metric. Raises ApiError or NoProposal."""
        namespace = autoscaler.metadata.namespace
        pods = self._pods.list(namespace, selector)
        slack = pace.tolerance(*pace.rules(autoscaler.spec))
        now = self._context.clock.now()
        current = scale.wanted
        if metric.object is not None or metric.external is not None:
            value = await self._outer_value(namespace, metric)
            return _by_outer(metric, current, value, proposal.group(pods, _all(pods), "", now).ready, slack)
        if metric.pods is not None:
            source = metric.pods
            samples = await self._metrics.of_pods(namespace, scale.selector, source.metric.name, source.metric.selector)
            groups = proposal.group(pods, samples, "", now)
            return proposal.by_average(current, pods, samples, _amount(source.target.averageValue), groups, slack)
        source_ = metric.resource or metric.containerResource
        if source_ is None:
            raise NoProposal(f"unknown metric source type {metric.type!r}")
        container = metric.containerResource.container if metric.containerResource is not None else ""
        samples = await self._metrics.of_resource(namespace, scale.selector, source_.name, container)
        groups = proposal.group(pods, samples, source_.name, now)
        if source_.target.averageUtilization is None:
            return proposal.by_average(current, pods, samples, _amount(source_.target.averageValue), groups, slack)
        if source_.target.averageUtilization <= 0:
            raise NoProposal("the target must be above zero")
        counted = [pod for pod in pods if pod.metadata.name not in groups.ignored]
        requests = proposal.requests_of(counted, source_.name, container)
        target = source_.target.averageUtilization
        return proposal.by_utilization(current, pods, samples, requests, target, groups, slack)

    async def _outer_value(self, namespace: str, metric: MetricSpec) -> int:
        if metric.external is not None:
            wanted = metric.external.metric
            return await self._metrics.of_outside(namespace, wanted.name, wanted.selector)
        assert metric.object is not None
        described = metric.object.describedObject
        resource = await self._resource_of(described.apiVersion or "v1", described.kind)
        wanted = metric.object.metric
        return await self._metrics.of_object(
            namespace, resource.group_resource, described.name, wanted.name, wanted.selector
        )

    async def _resource_of(self, api_version: str, kind: str) -> Resource:
        known = scheme.kind_of(api_version, kind)
        if known is not None:
            return known
        found = await self._context.discover()
        for resource in found.resources:
            if (resource.api_version, resource.kind) == (api_version, kind):
                return resource
        raise ApiError.internal(f'no matches for kind "{kind}" in version "{api_version}"')

    async def _scale_of(self, autoscaler: HorizontalPodAutoscaler) -> Scale:
        reference = autoscaler.spec.scaleTargetRef
        resource = await self._resource_of(reference.apiVersion or "v1", reference.kind)
        path = rest.path_of(resource, autoscaler.metadata.namespace, reference.name, "scale")
        answer = await self._context.client.request("GET", path)
        try:
            return Scale(path, msgspec.json.decode(answer.body, type=dict[str, Any]))
        except msgspec.DecodeError as error:
            raise ApiError.internal(f"cannot decode what the server sent for {path}: {error}") from error

    async def _rescale(
        self, autoscaler: HorizontalPodAutoscaler, scale: Scale, wanted: int, why: str, told: Report
    ) -> None:
        before = scale.wanted
        value = {**scale.value, "spec": {**scale.value.get("spec", {}), "replicas": wanted}}
        try:
            # With the resourceVersion that was read: a scale somebody else just set is not overwritten.
            await self._context.client.request("PUT", scale.path, body=codec.encode(value))
        except ApiError as error:
            message = f"the HPA controller was unable to update the target scale: {error}"
            told.say(ABLE, False, "FailedUpdateScale", message)
            told.sizes(scale.current, before)
            text = f"New size: {wanted}; reason: {why}; error: {error}"
            self._recorder.event(autoscaler, "Warning", "FailedRescale", text)
            return
        told.scaled(wanted)
        memory = self._memories.setdefault(autoscaler.metadata.uid, pace.Memory())
        memory.note_change(before, wanted, self._context.clock.monotonic())
        self._recorder.event(autoscaler, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: {why}")


def _all(pods: list[Pod]) -> dict[str, Sample]:
    return {pod.metadata.name: Sample(0) for pod in pods}


def _amount(text: str | None) -> int:
    amount = quantity.nano(text) if text is not None else 0
    if amount <= 0:
        raise NoProposal("the target must be above zero")
    return amount


def _by_outer(metric: MetricSpec, current: int, value: int, ready: int, slack: proposal.Tolerance) -> Proposal:
    target = report.target_of(metric)
    assert target is not None
    if target.averageValue is not None:
        return proposal.by_share(current, value, _amount(target.averageValue), slack)
    return proposal.by_value(current, ready, value, _amount(target.value), slack)


def build(context: runtime.Context) -> Autoscaler:
    return Autoscaler(context)
