"""Quotas on a fake API: what is counted, when it is counted again, and what admission wrote meanwhile."""

from kybern.api.apps_v1 import ReplicaSet
from kybern.api.core_v1 import (
    ConfigMap,
    Container,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    Pod,
    PodSpec,
    PodStatus,
    ResourceQuota,
    ResourceQuotaSpec,
    ResourceRequirements,
    ScopedResourceSelectorRequirement,
    ScopeSelector,
    Service,
    ServicePort,
    ServiceSpec,
)
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.api.resource_v1 import (
    DeviceClaim,
    DeviceClass,
    DeviceClassSpec,
    DeviceRequest,
    ExactDeviceRequest,
    ResourceClaim,
    ResourceClaimSpec,
)
from kybern.api.scalars import Quantity
from kybern.controllers.resourcequota import plan
from kybern.machinery import usage
from kybern.testing import control_plane

NAMES = ["resourcequota-controller"]


def quota(scopes=(), **hard):
    names = {name.replace("__", "/").replace("_", "."): Quantity(text) for name, text in hard.items()}
    return ResourceQuota(
        metadata=ObjectMeta(name="q", namespace="default"),
        spec=ResourceQuotaSpec(hard=names, scopes=list(scopes)),
    )


def pod(name, cpu="100m", **spec):
    resources = ResourceRequirements(requests={"cpu": Quantity(cpu)} if cpu else {})
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(containers=[Container(name="c", image="i", resources=resources)], **spec),
    )


def used(plane):
    found = plane.api.get(ResourceQuota, "default", "q")
    return dict(found.status.used) if found.status.hard == found.spec.hard else None


def run(wanted, scenario, **options):
    async def whole(plane):
        await plane.client.create(wanted)
        await plane.until(lambda: used(plane) is not None)
        return await scenario(plane)

    return control_plane.run(NAMES, whole, node=False, **options)


def test_every_name_is_counted_from_the_objects_it_is_about():
    def prepare(api):
        for number in range(2):
            api.put(pod(f"p{number}"))
        api.put(ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
        api.put(ConfigMap(metadata=ObjectMeta(name="c", namespace="kube-system")))
        spec = ServiceSpec(type="NodePort", ports=[ServicePort(port=1), ServicePort(port=2)])
        api.put(Service(metadata=ObjectMeta(name="s", namespace="default"), spec=spec))
        api.put(ReplicaSet(metadata=ObjectMeta(name="r", namespace="default")))

    async def scenario(plane):
        return used(plane)

    wanted = quota(
        pods="5", cpu="1", requests_cpu="1", configmaps="9", services="3", services_nodeports="3",
        count__replicasets_apps="4", count__nothing_nowhere="1", secrets="2",
    )  # fmt: skip
    assert run(wanted, scenario, prepare=prepare) == {
        "pods": "2", "cpu": "200m", "requests.cpu": "200m", "configmaps": "1", "services": "1",
        "services.nodeports": "2", "count/replicasets.apps": "1", "secrets": "0",
    }  # fmt: skip


def test_a_deleted_object_gives_its_share_back_at_once():
    async def scenario(plane):
        await plane.client.delete(ConfigMap, "default", "c")
        await plane.clock.sleep(1)
        return used(plane)

    def prepare(api):
        api.put(ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))

    assert run(quota(configmaps="1"), scenario, prepare=prepare) == {"configmaps": "0"}


def test_a_pod_that_ended_takes_nothing_but_its_place_among_objects():
    async def scenario(plane):
        def end(found):
            found.status = PodStatus(phase="Succeeded")

        plane.api.edit(Pod, "default", "p", end)
        await plane.clock.sleep(1)
        return used(plane)

    found = run(quota(pods="2", cpu="1", count__pods="3"), scenario, prepare=lambda api: api.put(pod("p")))
    assert found == {"pods": "0", "cpu": "0", "count/pods": "1"}


def test_a_scope_counts_only_its_pods():
    def prepare(api):
        api.put(pod("a", cpu=""))
        api.put(pod("b"))
        api.put(pod("c", activeDeadlineSeconds=5))

    async def scenario(plane):
        return used(plane)["pods"]

    found = [run(quota([scope], pods="9"), scenario, prepare=prepare) for scope in ("BestEffort", "Terminating")]
    assert found == ["1", "1"]


def test_what_was_reserved_in_vain_is_freed_without_waiting_for_the_full_resync():
    async def scenario(plane):
        def reserve(found):
            found.status.used["pods"] = Quantity("7")

        plane.api.edit(ResourceQuota, "default", "q", reserve)
        await plane.clock.sleep(1)
        soon = used(plane)
        await plane.clock.sleep(15)
        return soon, used(plane)

    assert run(quota(pods="9"), scenario) == ({"pods": "7"}, {"pods": "0"})


def test_a_claim_on_its_way_to_another_class_counts_for_both():
    def scoped(name, wanted):
        selector = ScopeSelector(
            matchExpressions=[
                ScopedResourceSelectorRequirement(scopeName="VolumeAttributesClass", operator="In", values=[wanted])
            ]
        )
        hard = {"persistentvolumeclaims": Quantity("2")}
        return ResourceQuota(
            metadata=ObjectMeta(name=name, namespace="default"),
            spec=ResourceQuotaSpec(hard=hard, scopeSelector=selector),
        )

    async def scenario(plane):
        def counts():
            found = {
                q.metadata.name: q.status.used.get("persistentvolumeclaims") for q in plane.api.list(ResourceQuota)
            }
            return found["q"], found["silver"]

        def want(found):
            found.spec.volumeAttributesClassName = "silver"

        def have(found):
            found.status.currentVolumeAttributesClassName = "silver"

        await plane.client.create(scoped("silver", "silver"))
        seen = []
        for change in (lambda found: None, want, have):
            plane.api.edit(PersistentVolumeClaim, "default", "c", change)
            await plane.clock.sleep(1)
            seen.append(counts())
        return seen

    def prepare(api):
        api.put(
            PersistentVolumeClaim(
                metadata=ObjectMeta(name="c", namespace="default"),
                spec=PersistentVolumeClaimSpec(volumeAttributesClassName="gold"),
                status=PersistentVolumeClaimStatus(currentVolumeAttributesClassName="gold"),
            )
        )

    found = run(scoped("q", "gold"), scenario, prepare=prepare)
    assert found == [("1", "0"), ("1", "1"), ("0", "1")]


def test_a_new_limit_is_in_force_at_once():
    async def scenario(plane):
        def change(found):
            found.spec.hard = {"pods": Quantity("1"), "secrets": Quantity("2")}

        plane.api.edit(ResourceQuota, "default", "q", change)
        await plane.clock.sleep(1)
        return used(plane)

    assert run(quota(pods="9"), scenario) == {"pods": "0", "secrets": "0"}


def test_devices_are_counted_from_claims_and_from_pods():
    def prepare(api):
        asked = DeviceRequest(name="r", exactly=ExactDeviceRequest(deviceClassName="gold", count=2))
        spec = ResourceClaimSpec(devices=DeviceClaim(requests=[asked]))
        api.put(ResourceClaim(metadata=ObjectMeta(name="c", namespace="default"), spec=spec))
        made = pod("p", cpu="")
        made.spec.containers[0].resources.requests = {"deviceclass.resource.kubernetes.io/gold": Quantity("3")}
        api.put(made)

    async def scenario(plane):
        first = used(plane)
        await plane.client.delete(ResourceClaim, "default", "c")
        await plane.clock.sleep(1)
        return first, used(plane)

    by_class, by_any = "gold.deviceclass.resource.k8s.io/devices", "requests.deviceclass.resource.kubernetes.io/gold"
    wanted = quota()
    wanted.spec.hard = {by_class: Quantity("9"), by_any: Quantity("9")}
    assert run(wanted, scenario, prepare=prepare) == ({by_class: "2", by_any: "5"}, {by_class: "0", by_any: "3"})


def test_a_class_that_is_an_extended_resource_counts_as_one_but_not_for_a_pod_that_was_charged():
    def claim(name, **meta):
        asked = DeviceRequest(name="r", exactly=ExactDeviceRequest(deviceClassName="gold", count=2))
        spec = ResourceClaimSpec(devices=DeviceClaim(requests=[asked]))
        return ResourceClaim(metadata=ObjectMeta(name=name, namespace="default", **meta), spec=spec)

    def prepare(api):
        gold = DeviceClass(metadata=ObjectMeta(name="gold"), spec=DeviceClassSpec(extendedResourceName="x.io/gpu"))
        api.put(gold)
        api.put(claim("own"))
        made = pod("p", cpu="")
        made.metadata.uid = "u1"
        made.spec.containers[0].resources.requests = {"x.io/gpu": Quantity("3")}
        api.put(made)
        for name, uid in (("of-the-pod", "u1"), ("of-another", "u2")):
            owner = OwnerReference(apiVersion="v1", kind="Pod", name="p", uid=uid, controller=True)
            api.put(claim(name, annotations={usage.EXTENDED_CLAIM: "true"}, ownerReferences=[owner]))

    async def scenario(plane):
        return used(plane)

    wanted = quota()
    wanted.spec.hard = {"requests.x.io/gpu": Quantity("9")}
    assert run(wanted, scenario, prepare=prepare) == {"requests.x.io/gpu": "7"}


def test_names_that_are_about_nothing_have_no_source():
    claims = "resourceclaims.resource.k8s.io"
    assert plan.sources_of("gold.storageclass.storage.k8s.io/requests.storage") == ("persistentvolumeclaims",)
    assert plan.sources_of("gold.deviceclass.resource.k8s.io/devices") == (claims,)
    assert plan.sources_of("requests.deviceclass.resource.kubernetes.io/gold") == ("pods", claims)
    assert plan.sources_of("requests.example.com/gpu") == ("pods", claims)
    assert plan.sources_of("limits.ephemeral-storage") == ("pods",)
    assert plan.sources_of("count/widgets.example.com") == ("widgets.example.com",)
    assert [plan.sources_of(name) for name in ("example.com/gpu", "widgets", "")] == [(), (), ()]
