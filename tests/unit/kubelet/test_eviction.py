"""Pressure on the node, and whom it costs."""

import pytest

from kybern.api.core_v1 import Container, EmptyDirVolumeSource, Pod, PodSpec, ResourceRequirements, Volume
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet import eviction
from kybern.kubelet.eviction import PodUse, Room, Thresholds
from kybern.kubelet.image_collection import ImageCollection, Seen, plan_collection
from kybern.kubelet.metrics import Metrics
from kybern.testing import clock as virtual
from kybern.testing.fake_cri import FakeCri

MI = 1 << 20


def pod(name, *, memory="", priority=0, limits=None, volume_limit="", **spec):
    requests = {"memory": Quantity(memory)} if memory else {}
    resources = ResourceRequirements(requests=requests, limits={k: Quantity(v) for k, v in (limits or {}).items()})
    volumes = [Volume(name="v", emptyDir=EmptyDirVolumeSource(sizeLimit=volume_limit or None))]
    return Pod(
        metadata=ObjectMeta(name=name, uid=name),
        spec=PodSpec(containers=[Container(name="c", resources=resources)], priority=priority, volumes=volumes, **spec),
    )


def room(memory=1000 * MI, disk=50, inodes=50):
    return Room(memory, 2000 * MI, disk, 100, inodes, 100)


def test_pressure_is_what_falls_below_a_threshold():
    limits = Thresholds()
    assert eviction.lacking(room(), limits) == ()
    assert eviction.lacking(room(memory=99 * MI), limits) == ("memory",)
    assert eviction.lacking(room(disk=9, inodes=4), limits) == ("ephemeral-storage", "inodes")


def test_who_exceeds_its_request_goes_first_then_the_least_important():
    pods = [pod("modest", memory="100Mi"), pod("greedy", memory="10Mi"), pod("vip", memory="10Mi", priority=1000)]
    use = {name: PodUse({"c": amount * MI}) for name, amount in (("modest", 90), ("greedy", 50), ("vip", 80))}
    assert [p.metadata.name for p in eviction.rank(pods, use, "memory")] == ["greedy", "vip", "modest"]
    assert eviction.rank([pod("critical", priority=2_000_000_000)], {}, "memory") == []


@pytest.mark.parametrize(
    ("tested", "use", "message"),
    [
        (pod("p", volume_limit="1Mi"), PodUse(volumes={"v": 2 * MI}), 'Usage of EmptyDir volume "v" exceeds'),
        (pod("p", volume_limit="1Mi"), PodUse(volumes={"v": MI}), ""),
        (pod("p", limits={"ephemeral-storage": "1Mi"}), PodUse(disk={"c": 2 * MI}), "Pod ephemeral local storage"),
        (pod("p"), PodUse(disk={"c": 2000 * MI}), ""),
    ],
)
def test_local_storage_beyond_its_limit_costs_the_pod(tested, use, message):
    why = eviction.plan_storage_limits(tested, use)
    assert why.startswith(message)
    assert bool(why) is bool(message)


def test_a_directorys_size_counts_every_file_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 8192)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to("/etc")
    assert 8192 <= eviction.directory_size(tmp_path) < 3 * 8192


def drive(tmp_path, pods, rooms, scenario):
    async def main(clock):
        cri, ended = FakeCri(clock), []
        collection = ImageCollection(cri, clock)
        tested = eviction.Eviction(
            cri,
            clock,
            tmp_path,
            collection,
            lambda: pods,
            lambda uid, verdict: ended.append((uid, verdict)),
            Metrics(),
            room=lambda _: rooms[0] if len(rooms) == 1 else rooms.pop(0),
        )
        await scenario(tested, cri, ended, clock)

    virtual.run(main)


def test_a_pod_is_evicted_and_the_condition_stays_a_while(tmp_path):
    async def scenario(tested, cri, ended, clock):
        await tested.check()
        assert [uid for uid, _ in ended] == ["a"]
        verdict = ended[0][1]
        assert (verdict.reason, verdict.condition.reason, verdict.grace) == ("Evicted", "TerminationByKubelet", 1)
        assert verdict.message.startswith("The node was low on resource: memory.")
        assert tested.health().memory
        await tested.check()
        assert len(ended) == 1
        await clock.sleep(200)
        assert tested.pressure() == ("MemoryPressure",)
        await clock.sleep(200)
        assert tested.pressure() == ()

    drive(tmp_path, [pod("a")], [room(memory=MI), room()], scenario)


def test_unused_images_go_before_pods(tmp_path):
    async def scenario(tested, cri, ended, clock):
        await tested.check()
        assert ended == []
        assert "remove_image" in cri.calls

    drive(tmp_path, [pod("a")], [room(disk=1), room()], scenario)


# Images.


def test_the_least_recently_used_images_are_collected_first():
    async def main(clock):
        cri = FakeCri(clock, ("old:1", "used:1", "young:1", "older:1"))
        images = await cri.list_images()
        seen = {i.id: Seen(0.0, 5.0) for i in images}
        seen["sha256:older:1"] = Seen(0.0, 1.0)
        seen["sha256:young:1"] = Seen(990.0, 990.0)
        chosen = plan_collection(images, {"used:1"}, seen, 1000.0, 1500, 120.0)
        assert [i.tags[0] for i in chosen] == ["older:1", "old:1"]
        assert plan_collection(images, set(), seen, 1000.0, 0, 0.0) == []

    virtual.run(main)
