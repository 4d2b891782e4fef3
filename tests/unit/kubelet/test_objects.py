"""ConfigMaps and Secrets, watched while somebody refers to them."""

import asyncio

from kybern.api.certificates_v1beta1 import ClusterTrustBundle, ClusterTrustBundleSpec
from kybern.api.core_v1 import (
    ClusterTrustBundleProjection,
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    LocalObjectReference,
    Pod,
    PodSpec,
    ProjectedVolumeSource,
    SecretProjection,
    Volume,
    VolumeProjection,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.informer import Informers
from kybern.kubelet import objects
from kybern.machinery.status import ApiError
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi

ONE = ("ConfigMap", "ns", "m")


def config(**data):
    return ConfigMap(metadata=ObjectMeta(name="m", namespace="ns"), data=data)


def drive(scenario):
    async def main(clock):
        api = FakeApi(clock)
        client = api.client()
        informers = Informers(client, clock)
        told = []
        tested = objects.ReferencedObjects(client, informers, clock, lambda uids: told.append(set(uids)))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(informers.run()), tasks.create_task(tested.run())]
            await scenario(tested, api, told, clock)
            for task in running:
                task.cancel()

    virtual.run(main)


def test_everything_a_pod_names_is_found():
    sources = [VolumeProjection(secret=SecretProjection(name="s2"))]
    pod = Pod(
        metadata=ObjectMeta(namespace="ns"),
        spec=PodSpec(
            containers=[Container(name="c")],
            imagePullSecrets=[LocalObjectReference(name="s1")],
            volumes=[
                Volume(name="a", configMap=ConfigMapVolumeSource(name="m")),
                Volume(name="b", projected=ProjectedVolumeSource(sources=sources)),
            ],
        ),
    )
    assert objects.references_of(pod) == {ONE, ("Secret", "ns", "s1"), ("Secret", "ns", "s2")}


def test_an_object_is_read_before_it_is_used_and_followed_afterwards():
    async def scenario(tested, api, told, clock):
        api.put(config(k="1"))
        tested.refer("pod", {ONE})
        await tested.wait_known({ONE})
        assert tested.config_map("ns", "m").data == {"k": "1"}
        await clock.sleep(1)
        assert told == []
        api.put(config(k="2"))
        await clock.sleep(1)
        assert told == [{"pod"}]
        assert tested.config_map("ns", "m").data == {"k": "2"}
        api.remove(ConfigMap, "ns", "m")
        await clock.sleep(1)
        assert tested.config_map("ns", "m") is None

    drive(scenario)


def test_what_is_not_there_yet_is_told_when_it_comes():
    async def scenario(tested, api, told, clock):
        tested.refer("pod", {ONE})
        await tested.wait_known({ONE})
        assert tested.config_map("ns", "m") is None
        await clock.sleep(1)
        api.put(config(k="1"))
        await clock.sleep(1)
        assert told == [{"pod"}]

    drive(scenario)


def test_an_authorizer_that_lags_behind_costs_but_a_moment():
    async def scenario(tested, api, told, clock):
        api.put(config(k="1"))
        api.fail_next("get configmaps", ApiError.forbidden("", "configmaps", "m", "no relationship"), times=2)
        began = clock.monotonic()
        tested.refer("pod", {ONE})
        await tested.wait_known({ONE})
        assert clock.monotonic() - began < 0.2

    drive(scenario)


def test_the_watch_ends_with_the_last_pod_that_refers():
    async def scenario(tested, api, told, clock):
        api.put(config())
        tested.refer("a", {ONE})
        tested.refer("b", {ONE})
        await clock.sleep(1)
        tested.release("a")
        assert tested.config_map("ns", "m") is not None
        tested.release("b")
        await clock.sleep(1)
        assert tested.config_map("ns", "m") is None
        assert not api._watches

    drive(scenario)


def bundle(name, text, **labels):
    spec = ClusterTrustBundleSpec(signerName="example.com/s", trustBundle=text)
    return ClusterTrustBundle(metadata=ObjectMeta(name=name, labels=labels), spec=spec)


def test_trust_bundles_are_followed_by_name_and_by_signer():
    async def scenario(tested, api, told, clock):
        api.put(bundle("example.com:s:a", "A"))
        api.put(bundle("example.com:s:b", "B"))
        named, of_signer = ("ClusterTrustBundle", "", "example.com:s:a"), ("TrustBundles", "", "example.com/s")
        tested.refer("one", {named})
        tested.refer("all", {of_signer})
        await tested.wait_known({named, of_signer})

        def seen(*asked):
            return sorted(b.spec.trustBundle for b in tested.trust_bundles(*asked))

        assert (seen("example.com:s:a", ""), seen("", "example.com/s")) == (["A"], ["A", "B"])
        assert (seen("other", ""), seen("", "example.com/other")) == ([], [])
        await clock.sleep(1)
        assert told == []
        api.put(bundle("example.com:s:c", "C"))
        api.remove(ClusterTrustBundle, "", "example.com:s:b")
        await clock.sleep(1)
        assert (seen("example.com:s:a", ""), seen("", "example.com/s")) == (["A"], ["A", "C"])
        assert {"all"} in told
        assert {"one"} not in told

    drive(scenario)


def test_projected_bundles_are_references():
    named = VolumeProjection(clusterTrustBundle=ClusterTrustBundleProjection(name="n", path="p"))
    signed = VolumeProjection(clusterTrustBundle=ClusterTrustBundleProjection(signerName="example.com/s", path="p"))
    volume = Volume(name="b", projected=ProjectedVolumeSource(sources=[named, signed]))
    pod = Pod(metadata=ObjectMeta(namespace="ns"), spec=PodSpec(volumes=[volume]))
    assert objects.references_of(pod) == {("ClusterTrustBundle", "", "n"), ("TrustBundles", "", "example.com/s")}
