"""Autoscalers: what a metric asks for, how fast that is followed, and whole turns on a fake API."""

import datetime

import pytest

from kybern.api import scalars
from kybern.api.apps_v1 import Deployment, DeploymentSpec
from kybern.api.autoscaling_v2 import (
    CrossVersionObjectReference,
    ExternalMetricSource,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec,
    HPAScalingPolicy,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from kybern.api.core_v1 import (
    Container,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
    ResourceRequirements,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.scalars import Quantity
from kybern.controllers.horizontalpodautoscaler import pace, proposal
from kybern.controllers.horizontalpodautoscaler.metrics import Sample
from kybern.testing import control_plane
from kybern.testing.clock import START

MILLI = 10**6
SLACK = proposal.Tolerance()


def pod(name, phase="Running", ready="True", started=-1000.0, changed=-900.0, deleted=False, request="1"):
    def at(seconds):
        return scalars.render_time(START + datetime.timedelta(seconds=seconds))

    resources = ResourceRequirements(requests={"cpu": Quantity(request)} if request else {})
    return Pod(
        metadata=ObjectMeta(name=name, deletionTimestamp=at(0) if deleted else None),
        spec=PodSpec(containers=[Container(name="c", resources=resources)]),
        status=PodStatus(
            phase=phase,
            startTime=at(started),
            conditions=[PodCondition(type="Ready", status=ready, lastTransitionTime=at(changed))],
        ),
    )


def by_cpu(current, load, target=50, extra=()):
    """Replicas for pods that each use so many milli of the one CPU they request."""
    pods = [pod(f"p{n}") for n in range(len(load))] + list(extra)
    samples = {f"p{n}": Sample(milli * MILLI, START) for n, milli in enumerate(load)}
    samples |= {
        p.metadata.name: Sample(2000 * MILLI, START)
        for p in extra
        if p.status.phase == "Running" and "m" not in p.metadata.name
    }
    groups = proposal.group(pods, samples, "cpu", START)
    requests = proposal.requests_of([p for p in pods if p.metadata.name not in groups.ignored], "cpu", "")
    return proposal.by_utilization(current, pods, samples, requests, target, groups, SLACK).replicas


@pytest.mark.parametrize(
    ("load", "replicas"),
    [
        ([1000, 1000], 4),
        ([500, 500], 2),
        ([540, 540], 2),
        ([560, 560], 3),
        ([250, 250], 1),
        ([100] * 5, 1),
        ([0, 0], 0),
    ],
)
def test_replicas_follow_the_proportion_of_use_to_target(load, replicas):
    assert by_cpu(len(load), load) == replicas


def test_pods_without_metrics_damp_a_change_and_never_turn_it_round():
    assert by_cpu(3, [1000, 1000], extra=[pod("m1")]) == 4  # as if it used nothing
    assert by_cpu(3, [800, 800], extra=[pod("m1")]) == 3  # which leaves 53 %: near enough
    assert by_cpu(4, [100, 100], extra=[pod("m1"), pod("m2")]) == 3  # as if they used the target
    assert by_cpu(3, [600, 600], extra=[pod("m1")]) == 3  # down, it would be


def test_pods_that_start_pull_nothing_up():
    starting = pod("s", ready="False", started=-60, changed=-60)
    assert by_cpu(3, [1000, 1000], extra=[starting]) == 4
    assert by_cpu(3, [1000, 1000], extra=[pod("s", phase="Pending")]) == 4


def test_pods_that_go_or_are_gone_do_not_count():
    assert by_cpu(2, [500, 500], extra=[pod("x", deleted=True), pod("y", phase="Failed")]) == 2


def test_a_container_that_does_not_say_what_it_needs_makes_a_percentage_impossible():
    with pytest.raises(proposal.NoProposal, match="missing request for cpu in container c of Pod p"):
        proposal.requests_of([pod("p", request="")], "cpu", "")


@pytest.mark.parametrize(
    ("value", "target", "ready", "replicas"), [(20, 10, 3, 6), (10, 10, 3, 3), (105, 100, 3, 3), (1, 10, 3, 1)]
)
def test_a_metric_of_something_else_scales_the_ready_pods(value, target, ready, replicas):
    assert proposal.by_value(3, ready, value, target, SLACK).replicas == replicas


@pytest.mark.parametrize(("value", "replicas"), [(100, 10), (31, 3), (33, 3), (34, 4), (0, 0)])
def test_a_shared_metric_is_divided_by_what_each_pod_takes(value, replicas):
    assert proposal.by_share(3, value, 10, SLACK).replicas == replicas


def spec(up=None, down=None, low=1, high=100):
    behavior = HorizontalPodAutoscalerBehavior(scaleUp=up, scaleDown=down) if up or down else None
    return HorizontalPodAutoscalerSpec(minReplicas=low, maxReplicas=high, behavior=behavior)


def rule(*policies, window=0, select=None):
    made = [HPAScalingPolicy(type=t, value=v, periodSeconds=p) for t, v, p in policies]
    return HPAScalingRules(policies=made, stabilizationWindowSeconds=window, selectPolicy=select)


def test_growth_is_at_most_double_or_four_pods_in_fifteen_seconds():
    assert pace.pace(spec(), pace.Memory(), 1, 50, 0) == pace.Paced(5, "", "ScaleUpLimit")
    assert pace.pace(spec(), pace.Memory(), 10, 50, 0).replicas == 20


def test_what_was_added_in_a_period_counts_against_it():
    memory = pace.Memory()
    memory.note_change(10, 20, 0.0)
    assert pace.pace(spec(), memory, 20, 50, 5.0).replicas == 20
    assert pace.pace(spec(), memory, 20, 50, 16.0).replicas == 40


def test_replicas_go_down_only_when_the_window_has_seen_nothing_higher():
    memory = pace.Memory()
    assert pace.pace(spec(), memory, 10, 10, 0).replicas == 10
    assert pace.pace(spec(), memory, 10, 2, 100) == pace.Paced(10, "ScaleDownStabilized", "")
    assert pace.pace(spec(), memory, 10, 5, 250).replicas == 10
    assert pace.pace(spec(), memory, 10, 2, 301).replicas == 5


def test_a_window_up_waits_for_growth_that_lasts():
    memory = pace.Memory()
    up = rule(("Percent", 900, 15), window=60)
    pace.pace(spec(up), memory, 2, 2, 0)
    assert pace.pace(spec(up), memory, 2, 9, 30) == pace.Paced(2, "ScaleUpStabilized", "")
    assert pace.pace(spec(up), memory, 2, 9, 61).replicas == 9


@pytest.mark.parametrize(("select", "replicas"), [("Max", 10), ("Min", 19), ("Disabled", 20), (None, 10)])
def test_the_policy_chosen_limits_the_way_down(select, replicas):
    down = rule(("Percent", 50, 60), ("Pods", 1, 60), select=select)
    assert pace.pace(spec(down=down), pace.Memory([(0.0, 1)]), 20, 1, 1.0).replicas == replicas


@pytest.mark.parametrize(("wanted", "expected"), [(200, (100, "TooManyReplicas")), (0, (3, "TooFewReplicas"))])
def test_the_bounds_hold_whatever_is_wanted(wanted, expected):
    free = rule(("Percent", 10000, 15))
    paced = pace.pace(spec(free, rule(("Percent", 100, 15)), low=3), pace.Memory([(-400.0, 50)]), 50, wanted, 0)
    assert (paced.replicas, paced.limited) == expected


NAMES = ["replicaset-controller", "deployment-controller", "horizontal-pod-autoscaler-controller"]
PODS = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"


def deployment(replicas):
    container = Container(name="c", image="i", resources=ResourceRequirements(requests={"cpu": Quantity("100m")}))
    return Deployment(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels={"app": "web"}),
            template=PodTemplateSpec(metadata=ObjectMeta(labels={"app": "web"}), spec=PodSpec(containers=[container])),
            revisionHistoryLimit=2,
        ),
    )


def autoscaler(*metrics, low=1, high=10):
    cpu = MetricSpec(
        type="Resource",
        resource=ResourceMetricSource(name="cpu", target=MetricTarget(type="Utilization", averageUtilization=50)),
    )
    return HorizontalPodAutoscaler(
        metadata=ObjectMeta(name="h", namespace="default"),
        spec=HorizontalPodAutoscalerSpec(
            scaleTargetRef=CrossVersionObjectReference(apiVersion="apps/v1", kind="Deployment", name="web"),
            minReplicas=low,
            maxReplicas=high,
            metrics=list(metrics) or [cpu],
        ),
    )


class Load:
    """A metrics server that shares a load (milli CPU) among the pods there are."""

    def __init__(self, api, clock, milli):
        self.api, self.clock, self.milli = api, clock, milli
        api.serve(PODS, self.document)

    def document(self):
        names = [p.metadata.name for p in self.api.list(Pod) if p.status.phase == "Running"]
        usage = {"cpu": f"{self.milli // max(1, len(names))}m"}
        stamp = scalars.render_time(self.clock.now())
        return {
            "items": [
                {
                    "metadata": {"name": n},
                    "timestamp": stamp,
                    "window": "15s",
                    "containers": [{"name": "c", "usage": usage}],
                }
                for n in names
            ]
        }


def conditions(plane):
    found = plane.api.get(HorizontalPodAutoscaler, "default", "h")
    return {c.type: (c.status, c.reason) for c in found.status.conditions}


def test_a_workload_grows_with_its_load_and_shrinks_after_the_window():
    async def scenario(plane):
        load = Load(plane.api, plane.clock, 200)
        await plane.client.create(deployment(2))
        await plane.client.create(autoscaler())
        await plane.clock.sleep(900)
        high = plane.api.get(Deployment, "default", "web").spec.replicas
        status = plane.api.get(HorizontalPodAutoscaler, "default", "h").status
        load.milli = 50
        await plane.clock.sleep(200)
        held = plane.api.get(Deployment, "default", "web").spec.replicas, conditions(plane)["AbleToScale"]
        await plane.clock.sleep(400)
        return high, status, held, plane.api.get(Deployment, "default", "web").spec.replicas

    high, status, held, low = control_plane.run(NAMES, scenario)
    assert high == 4
    assert (status.currentReplicas, status.desiredReplicas) == (4, 4)
    assert status.currentMetrics[0].resource.current.averageUtilization == 50
    assert held == (4, ("True", "ScaleDownStabilized"))
    assert low == 1


def test_without_metrics_nothing_is_scaled_and_the_condition_says_why():
    async def scenario(plane):
        await plane.client.create(deployment(2))
        await plane.client.create(autoscaler())
        await plane.clock.sleep(40)
        return plane.api.get(Deployment, "default", "web").spec.replicas, conditions(plane)

    replicas, told = control_plane.run(NAMES, scenario)
    assert replicas == 2
    assert told["ScalingActive"] == ("False", "FailedGetResourceMetric")


def test_bounds_are_kept_even_without_metrics():
    async def scenario(plane):
        await plane.client.create(deployment(1))
        await plane.client.create(autoscaler(low=3))
        await plane.clock.sleep(40)
        return plane.api.get(Deployment, "default", "web").spec.replicas

    assert control_plane.run(NAMES, scenario) == 3


def test_a_target_of_zero_replicas_is_left_alone():
    async def scenario(plane):
        await plane.client.create(deployment(0))
        await plane.client.create(autoscaler())
        await plane.clock.sleep(40)
        return plane.api.get(Deployment, "default", "web").spec.replicas, conditions(plane)["ScalingActive"]

    assert control_plane.run(NAMES, scenario) == (0, ("False", "ScalingDisabled"))


def test_a_target_that_is_not_there_is_told_of():
    async def scenario(plane):
        await plane.client.create(autoscaler())
        await plane.clock.sleep(5)
        return conditions(plane)

    assert control_plane.run(NAMES, scenario)["AbleToScale"] == ("False", "FailedGetScale")


def external(target):
    source = ExternalMetricSource(metric=MetricIdentifier(name="queue"), target=target)
    return MetricSpec(type="External", external=source)


@pytest.mark.parametrize("garbage", [{"items": [{"value": "x"}]}, {"items": 5}, {"items": []}, {}])
def test_garbage_from_a_metrics_server_is_a_metric_that_cannot_be_read(garbage):
    async def scenario(plane):
        plane.api.serve("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue", lambda: garbage)
        await plane.client.create(deployment(2))
        target = MetricTarget(type="AverageValue", averageValue=Quantity("10"))
        await plane.client.create(autoscaler(external(target)))
        await plane.clock.sleep(40)
        return plane.api.get(Deployment, "default", "web").spec.replicas, conditions(plane)["ScalingActive"]

    assert control_plane.run(NAMES, scenario) == (2, ("False", "FailedGetExternalMetric"))


def test_the_metric_that_asks_for_most_wins():
    async def scenario(plane):
        Load(plane.api, plane.clock, 100)
        values = {"items": [{"value": "20"}, {"value": "10"}]}
        plane.api.serve("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue", lambda: values)
        await plane.client.create(deployment(2))
        wanted = autoscaler()
        wanted.spec.metrics.append(external(MetricTarget(type="AverageValue", averageValue=Quantity("10"))))
        await plane.client.create(wanted)
        await plane.clock.sleep(60)
        return plane.api.get(Deployment, "default", "web").spec.replicas

    assert control_plane.run(NAMES, scenario) == 3
