from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from kybern.api import codec, core_v1
from kybern.api.core_v1 import Container, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, ResourceRequirements
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.api.storage_v1 import StorageClass
from kybern.apiserver.admission.chain import Chain
from kybern.apiserver.admission.resource_quota import ResourceQuotaAdmission
from kybern.machinery import defaults
from kybern.machinery.status import ApiError
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock
from kybern.testing.gate import Gate, pod
from kybern.testing.objects import ObjectTable


def amounts(text: str) -> dict[str, Quantity]:
    return {k: Quantity(v) for k, v in (part.split("=") for part in text.split())}


def container(name: str = "a", requests: str = "", limits: str = "") -> Container:
    return Container(name=name, resources=ResourceRequirements(requests=amounts(requests), limits=amounts(limits)))


class Budget(Gate):
    """The chain with quotas, and writes that may wait."""

    def quota(self, hard: str, used: str = "", name: str = "q", **spec: Any) -> None:
        limits = amounts(hard)
        spent = {n: Quantity("0") for n in limits} | amounts(used)
        self.objects.put(
            ResourceQuota(
                metadata=ObjectMeta(name=name, namespace="ns"),
                spec=ResourceQuotaSpec(hard=limits, **spec),
                status=ResourceQuotaStatus(hard=limits, used=spent),
            )
        )

    def used(self, name: str = "q") -> dict[str, str]:
        return dict(self.objects.get("resourcequotas", "ns", name).status.used)

    async def admit(self, obj: Any, old: Any = None, **more: Any) -> None:
        made = codec.clone(obj)
        defaults.apply(made)
        waiting = self.chain.admit(self.attributes("UPDATE" if old else "CREATE", made, old, **more))
        if waiting is not None:
            await waiting

    def outcome(self, obj: Any, old: Any = None, **more: Any) -> str:
        """ "" or the refusal."""
        try:
            asyncio.run(self.admit(obj, old, **more))
        except ApiError as error:
            assert error.code == 403
            return str(error)
        return ""


def test_what_is_taken_is_written_down() -> None:
    gate = Budget()
    gate.quota("pods=2 requests.cpu=1 limits.memory=1Gi", "pods=1 requests.cpu=100m")
    assert gate.outcome(pod(container("a", "cpu=200m", "memory=1Mi"))) == ""
    assert gate.used() == {"pods": "2", "requests.cpu": "300m", "limits.memory": "1Mi"}


# The texts are those of kube-apiserver 1.36 for the same quotas and objects.
@pytest.mark.parametrize(
    ("hard", "used", "containers", "why"),
    [
        (
            "pods=1",
            "pods=1",
            [Container(name="r")],
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        (
            "pods=5 requests.cpu=1 limits.memory=1Gi requests.ephemeral-storage=1Gi",
            "pods=1",
            [Container(name="r")],
            "failed quota: q: must specify limits.memory for: r; requests.cpu for: r",
        ),
        (
            "requests.cpu=1 limits.memory=1Gi",
            "",
            [container("a", "", "memory=1Mi"), container("b", "cpu=1")],
            "failed quota: q: must specify limits.memory for: b; requests.cpu for: a",
        ),
        (
            "pods=5 requests.cpu=1 limits.memory=1Gi",
            "pods=1",
            [container("a", "cpu=1500m", "memory=2Gi")],
            (
                "exceeded quota: q, requested: limits.memory=2Gi,requests.cpu=1500m, "
                "used: limits.memory=0,requests.cpu=0, limited: limits.memory=1Gi,requests.cpu=1"
            ),
        ),
        (
            "cpu=1 memory=1Gi limits.cpu=2 limits.memory=1 requests.cpu=1",
            "",
            [container("a")],
            (
                "failed quota: q: must specify cpu for: a; limits.cpu for: a; limits.memory for: a; memory for: a; "
                "requests.cpu for: a"
            ),
        ),
        (
            "requests.nvidia.com/gpu=1",
            "",
            [container("a", "", "nvidia.com/gpu=2")],
            (
                "exceeded quota: q, requested: requests.nvidia.com/gpu=2, used: requests.nvidia.com/gpu=0, "
                "limited: requests.nvidia.com/gpu=1"
            ),
        ),
        (
            "count/pods=0",
            "",
            [container("a")],
            "exceeded quota: q, requested: count/pods=1, used: count/pods=0, limited: count/pods=0",
        ),
        ("requests.storage=0 services=0", "", [container("a")], ""),
        ("cpu=1", "", [container("a", "cpu=1")], ""),
    ],
)
def test_pods(hard: str, used: str, containers: list[Container], why: str) -> None:
    gate = Budget()
    gate.quota(hard, used)
    assert gate.outcome(pod(*containers)) == (f'pods "p" is forbidden: {why}' if why else "")


def service(kind: str, ports: int = 1) -> core_v1.Service:
    spec = core_v1.ServiceSpec(type=kind, ports=[core_v1.ServicePort(port=80 + i) for i in range(ports)])
    return core_v1.Service(metadata=ObjectMeta(name="s", namespace="ns"), spec=spec)


def claim(size: str, storage_class: str | None = "gold") -> core_v1.PersistentVolumeClaim:
    resources = core_v1.VolumeResourceRequirements(requests=amounts(f"storage={size}"))
    spec = core_v1.PersistentVolumeClaimSpec(storageClassName=storage_class, resources=resources)
    status = core_v1.PersistentVolumeClaimStatus(phase="Bound")
    return core_v1.PersistentVolumeClaim(metadata=ObjectMeta(name="c", namespace="ns"), spec=spec, status=status)


def config_map(name: str = "c") -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace="ns"))


@pytest.mark.parametrize(
    ("hard", "obj", "requested"),
    [
        ("services=0", service("ClusterIP"), "services=1"),
        ("services.nodeports=0", service("ClusterIP"), ""),
        ("services.nodeports=0", service("NodePort", 2), "services.nodeports=2"),
        (
            "services=0 services.nodeports=0 services.loadbalancers=0",
            service("LoadBalancer"),
            "services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        ("configmaps=0 count/configmaps=0", config_map(), "configmaps=1,count/configmaps=1"),
        ("requests.storage=1Gi", claim("2Gi"), "requests.storage=2Gi"),
        (
            (
                "gold.storageclass.storage.k8s.io/requests.storage=1Gi "
                "silver.storageclass.storage.k8s.io/requests.storage=0"
            ),
            claim("2Gi"),
            "gold.storageclass.storage.k8s.io/requests.storage=2Gi",
        ),
        ("gold.storageclass.storage.k8s.io/persistentvolumeclaims=0", claim("2Gi", "silver"), ""),
    ],
)
def test_other_objects(hard: str, obj: Any, requested: str) -> None:
    gate = Budget()
    gate.quota(hard)
    refused = gate.outcome(obj)
    assert (f"requested: {requested}, used:" in refused) if requested else refused == ""


def test_custom_resources_are_counted() -> None:
    gate = Budget()
    gate.quota("count/deployments.apps=0")
    from kybern.api.apps_v1 import Deployment

    assert "count/deployments.apps=1" in gate.outcome(Deployment(metadata=ObjectMeta(name="d", namespace="ns")))


def test_all_quotas_count_and_all_or_none_is_taken() -> None:
    gate = Budget()
    gate.quota("pods=5", name="a")
    gate.quota("pods=0", name="b")
    assert "exceeded quota: b" in gate.outcome(pod())
    assert gate.used("a") == {"pods": "0"}


def test_a_quota_that_was_never_counted_limits_nothing() -> None:
    gate = Budget()
    spec = ResourceQuotaSpec(hard=amounts("pods=0"))
    gate.objects.put(ResourceQuota(metadata=ObjectMeta(name="q", namespace="ns"), spec=spec))
    assert gate.outcome(pod()) == ""


def test_a_dry_run_is_judged_and_takes_nothing() -> None:
    gate = Budget()
    gate.quota("pods=1")
    assert gate.outcome(pod(), dry_run=True) == ""
    assert gate.used() == {"pods": "0"}
    gate.quota("pods=1", "pods=1")
    assert "exceeded quota" in gate.outcome(pod(), dry_run=True)


def test_growth_is_counted_and_shrinking_is_free() -> None:
    gate = Budget()
    gate.quota("requests.storage=3Gi services.nodeports=1", "requests.storage=2Gi")
    gate.objects.put(StorageClass(metadata=ObjectMeta(name="gold"), allowVolumeExpansion=True))
    assert gate.outcome(claim("3Gi"), claim("2Gi")) == ""
    assert gate.used()["requests.storage"] == "3Gi"
    assert "requested: requests.storage=1Gi" in gate.outcome(claim("4Gi"), claim("3Gi"))
    assert gate.outcome(claim("1Gi"), claim("3Gi")) == ""
    assert gate.outcome(service("NodePort"), service("ClusterIP")) == ""
    assert gate.used()["services.nodeports"] == "1"
    assert gate.outcome(service("NodePort"), service("NodePort")) == ""


def test_an_ordinary_update_is_free() -> None:
    gate = Budget()
    gate.quota("pods=0 configmaps=0")
    assert gate.outcome(pod(), pod()) == ""
    assert gate.outcome(config_map(), config_map()) == ""


def test_scopes_choose_pods() -> None:
    gate = Budget()
    gate.quota("pods=0", scopes=["Terminating"])
    assert gate.outcome(pod()) == ""
    assert "exceeded quota" in gate.outcome(pod(activeDeadlineSeconds=10))
    gate.quota("pods=0", scopes=["BestEffort"])
    assert "exceeded quota" in gate.outcome(pod())
    assert gate.outcome(pod(container("a", "cpu=1"))) == ""


def test_a_pod_that_comes_into_the_scope_of_a_quota_is_counted_there_as_a_whole() -> None:
    gate = Budget()
    gate.quota("pods=1 requests.cpu=1", scopes=["Terminating"])
    gate.quota("pods=1", "pods=1", "other", scopes=["NotTerminating"])
    before, after = pod(container("a", "cpu=500m")), pod(container("a", "cpu=500m"), activeDeadlineSeconds=10)
    assert gate.outcome(after, before) == ""
    assert gate.used() == {"pods": "1", "requests.cpu": "500m"}
    assert gate.outcome(after, after) == ""  # it is in the scope already
    assert gate.used() == {"pods": "1", "requests.cpu": "500m"}
    told = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    assert told in gate.outcome(after, before)
    gate.quota("requests.memory=1Gi", scopes=["Terminating"])
    assert "failed quota: q: must specify requests.memory for: a" in gate.outcome(after, before)
    assert gate.outcome(after, after) == ""


@pytest.mark.parametrize(
    ("operator", "values", "limited"),
    [
        ("In", ["high"], True),
        ("In", ["low"], False),
        ("NotIn", ["low"], True),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_a_priority_class_may_have_its_own_quota(operator: str, values: list[str], limited: bool) -> None:
    gate = Budget()
    from kybern.api.scheduling_v1 import PriorityClass

    gate.objects.put(PriorityClass(metadata=ObjectMeta(name="high"), value=5))
    requirement = core_v1.ScopedResourceSelectorRequirement(scopeName="PriorityClass", operator=operator, values=values)
    gate.quota("pods=0", scopeSelector=core_v1.ScopeSelector(matchExpressions=[requirement]))
    assert bool(gate.outcome(pod(priorityClassName="high"))) == limited


class SlowTable(ObjectTable):
    """Writes take a turn of the loop, and a rival gets in first for as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rivals = 0

    async def update(self, resource: str, obj: Any) -> Any:
        await asyncio.sleep(0)
        if self.rivals:
            self.rivals -= 1
            self.put(self.get(resource, obj.metadata.namespace, obj.metadata.name))
        return await super().update(resource, obj)


class Crowd(Budget):
    def __init__(self) -> None:
        super().__init__()
        self.objects: SlowTable = SlowTable()
        self.clock = FakeClock()
        self.chain = Chain([ResourceQuotaAdmission(self.objects, self.objects, self.clock)])

    async def storm(self, count: int) -> list[str]:
        async def one(number: int) -> str:
            made = config_map(f"c{number}")
            try:
                await self.admit(made)
            except ApiError as error:
                return str(error)
            return ""

        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(i)) for i in range(count)]
            for _ in range(40):
                await self.clock.advance(1)
        return [t.result() for t in started]


def test_a_crowd_never_takes_more_than_there_is_and_shares_its_writes() -> None:
    gate = Crowd()
    gate.quota("configmaps=30")
    outcomes = asyncio.run(gate.storm(100))
    assert outcomes.count("") == 30
    assert gate.used() == {"configmaps": "30"}
    assert len(gate.objects.writes) < 10


def test_a_lost_race_is_judged_anew() -> None:
    gate = Crowd()
    gate.quota("configmaps=3")
    gate.objects.rivals = 3
    assert asyncio.run(gate.storm(5)).count("") == 3
    assert gate.used() == {"configmaps": "3"}


def test_a_race_lost_too_often_is_a_conflict() -> None:
    gate = Crowd()
    gate.quota("configmaps=3")
    gate.objects.rivals = 1000
    (outcome,) = asyncio.run(gate.storm(1))
    assert "please try again" in outcome


def test_with_several_quotas_a_lost_race_in_one_does_not_charge_the_other_twice() -> None:
    gate = Crowd()
    gate.quota("configmaps=9", name="a")
    gate.quota("count/configmaps=9", name="b")
    gate.objects.rivals = 1
    assert asyncio.run(gate.storm(4)).count("") == 4
    assert (gate.used("a"), gate.used("b")) == ({"configmaps": "4"}, {"count/configmaps": "4"})


@pytest.mark.parametrize("seed", range(5))
def test_those_given_up_leave_the_others_their_verdict(seed: int) -> None:
    async def scene() -> None:
        gate = Crowd()
        gate.quota("configmaps=50")
        dice = random.Random(seed)

        async def one(number: int) -> bool:
            try:
                async with asyncio.timeout(0 if dice.random() < 0.3 else 5):
                    await gate.admit(config_map(f"c{number}"))
            except TimeoutError:
                return False
            return True

        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(i)) for i in range(30)]
        granted = sum(t.result() for t in started)
        assert 0 < granted <= int(gate.used()["configmaps"])
        assert not gate.chain.plugins[0]._queues  # type: ignore[attr-defined]

    asyncio.run(scene())


def test_devices_of_a_class_that_is_an_extended_resource_are_charged_as_one() -> None:
    """As a v1.36 API server charges them."""

    async def scenario(api: Api) -> None:
        hard = {"requests.x.io/gpu": "3", "gold.deviceclass.resource.k8s.io/devices": "9"}
        gold = {"extendedResourceName": "x.io/gpu"}
        classes = "/apis/resource.k8s.io/v1/deviceclasses"
        claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
        quotas = "/api/v1/namespaces/default/resourcequotas"
        (await api.create(classes, {"metadata": {"name": "gold"}, "spec": gold})).ok()
        made = (await api.create(quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})).ok()
        status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
        (await api.update(f"{quotas}/q/status", {**made, "status": status})).ok()

        async def claim(count: int) -> Any:
            asked = {"name": "r", "exactly": {"deviceClassName": "gold", "count": count}}
            spec = {"devices": {"requests": [asked]}}
            return await api.create(claims, {"metadata": {"name": f"c{count}"}, "spec": spec})

        assert (await claim(2)).status == 201
        refused = await claim(4)
        assert refused.status == 403
        assert (
            "requested: requests.x.io/gpu=4, used: requests.x.io/gpu=2, limited: requests.x.io/gpu=3"
            in (refused.json["message"])
        )

    api_server.run(scenario)
