"""The Node object, from facts of the machine."""

from kybern.api.core_v1 import NodeCondition
from kybern.kubelet.cri import contract
from kybern.kubelet.node import machine, status
from kybern.kubelet.node.status import Health, Identity, Reserve
from kybern.testing.node import MACHINE

IDENTITY = Identity("n1", ("192.0.2.1",), 10250, "v1.36.0", labels={"zone": "a"})
NOW, EARLIER = "2026-01-01T00:10:00Z", "2026-01-01T00:00:00Z"


def test_pods_get_what_is_left_of_the_machine():
    reserve = Reserve(system={"cpu": "500m"}, kube={"memory": "1Gi"}, memory_eviction=100 << 20, max_pods=50)
    capacity, allocatable = status.capacity(MACHINE, reserve), status.allocatable(MACHINE, reserve)
    assert (capacity["cpu"], capacity["memory"], capacity["pods"]) == ("4", "8Gi", "50")
    assert allocatable["cpu"] == "3500m"
    assert allocatable["memory"] == "7068Mi"
    assert int(allocatable["ephemeral-storage"]) == (100 << 30) - int((100 << 30) * 0.1)


def test_a_new_node_has_its_labels_addresses_and_port():
    found = status.node_status(
        IDENTITY, MACHINE, Reserve(), contract.Version("containerd", "1.6", "v1"), contract.RuntimeStatus(), [], []
    )
    node = status.new_node(IDENTITY, MACHINE, found)
    assert node.metadata.labels["kubernetes.io/arch"] == "amd64"
    assert node.metadata.labels["zone"] == "a"
    assert [(a.type, a.address) for a in found.addresses] == [("InternalIP", "192.0.2.1"), ("Hostname", "n1")]
    assert found.daemonEndpoints.kubeletEndpoint.Port == 10250
    assert found.nodeInfo.containerRuntimeVersion == "containerd://1.6"


def test_the_largest_images_are_shown_with_their_names():
    images = [contract.Image(f"id{n}", (f"i:{n}",), (), n) for n in range(60)]
    shown = status.node_status(IDENTITY, MACHINE, Reserve(), None, contract.RuntimeStatus(), images, []).images
    assert len(shown) == 50
    assert (shown[0].names, shown[0].sizeBytes) == (["i:59"], 59)


def test_conditions_change_their_transition_time_with_their_status_only():
    old = [
        NodeCondition(type="Ready", status="True", lastTransitionTime=EARLIER),
        NodeCondition(type="MemoryPressure", status="False", lastTransitionTime=EARLIER),
    ]
    found = {c.type: c for c in status.conditions(Health(not_ready=("a", "b"), disk="full"), old, NOW)}
    assert (found["Ready"].status, found["Ready"].message) == ("False", "[a, b]")
    assert found["Ready"].lastTransitionTime == NOW
    assert found["MemoryPressure"].lastTransitionTime == EARLIER
    assert (found["DiskPressure"].status, found["DiskPressure"].reason) == ("True", "KubeletHasDiskPressure")
    assert {c.lastHeartbeatTime for c in found.values()} == {NOW}


def test_a_heartbeat_alone_is_no_news():
    def at(moment, health):
        conditions = status.conditions(health, [], moment)
        return status.node_status(IDENTITY, MACHINE, Reserve(), None, contract.RuntimeStatus(), [], conditions)

    assert status.is_same(at(EARLIER, Health()), at(NOW, Health()))
    assert not status.is_same(at(EARLIER, Health()), at(NOW, Health(not_ready=("x",))))


def test_facts_of_the_machine_are_read_from_its_files():
    assert machine.parse_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n") == 16 << 20
    assert machine.available_memory("MemTotal: 2 kB\nMemAvailable:    1024 kB\n") == 1 << 20
    assert machine.parse_os_release('NAME="x"\nPRETTY_NAME="Debian 12"\n') == "Debian 12"
    assert machine.parse_memory("") == 0
    assert machine.default_address()
