"""The Node object kept true, against the fake API."""

from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import Node
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.cri.contract import RuntimeCondition
from kybern.machinery.status import ApiError
from kybern.testing import node


def ready(found):
    return next(c for c in found.status.conditions if c.type == "Ready")


async def until_registered(n):
    while n.api.get(Node, "", "n1") is None or not n.api.get(Node, "", "n1").status.conditions:
        await n.clock.sleep(0.1)


def test_a_node_registers_becomes_ready_and_renews_its_lease(tmp_path):
    async def scenario(n):
        await until_registered(n)
        await n.clock.sleep(3)
        found = n.api.get(Node, "", "n1")
        assert ready(found).status == "True"
        first = n.api.get(Lease, "kube-node-lease", "n1")
        assert first.spec.holderIdentity == "n1"
        assert first.metadata.ownerReferences[0].uid == found.metadata.uid
        await n.clock.sleep(11)
        assert n.api.get(Lease, "kube-node-lease", "n1").spec.renewTime > first.spec.renewTime

    node.run(tmp_path, scenario)


def test_a_node_without_network_says_so_and_recovers_at_once(tmp_path):
    async def scenario(n):
        fine = n.cri.conditions
        n.cri.conditions = (fine[0], RuntimeCondition("NetworkReady", False, "NetworkPluginNotReady", "no cni"))
        await until_registered(n)
        await n.clock.sleep(12)
        assert "no cni" in ready(n.api.get(Node, "", "n1")).message
        n.cri.conditions = fine
        await n.clock.sleep(1.5)
        assert ready(n.api.get(Node, "", "n1")).status == "True"

    node.run(tmp_path, scenario)


def test_a_node_that_was_there_keeps_what_others_gave_it(tmp_path):
    async def scenario(n):
        n.api.put(Node(metadata=ObjectMeta(name="n1", labels={"mine": "1", "kubernetes.io/os": "plan9"})))
        await n.clock.sleep(3)
        labels = n.api.get(Node, "", "n1").metadata.labels
        assert labels["mine"] == "1"
        assert labels["kubernetes.io/os"] == "linux"

    node.run(tmp_path, scenario)


def test_a_node_that_somebody_deleted_comes_back(tmp_path):
    async def scenario(n):
        await until_registered(n)
        await n.clock.sleep(3)
        n.api.remove(Node, "", "n1")
        n.kubelet._registration.report_soon()
        n.cri.conditions = (*n.cri.conditions[:1], RuntimeCondition("NetworkReady", False))
        await n.clock.sleep(20)
        assert n.api.get(Node, "", "n1") is not None

    node.run(tmp_path, scenario)


def test_an_api_server_that_is_not_there_yet_is_waited_for(tmp_path):
    async def scenario(n):
        n.api.fail_next("create nodes", ApiError.unavailable("starting"), times=3)
        await n.clock.sleep(30)
        assert n.api.get(Node, "", "n1") is not None

    node.run(tmp_path, scenario)


def test_the_pod_cidr_is_handed_to_the_runtime(tmp_path):
    async def scenario(n):
        await until_registered(n)

        def give(found):
            found.spec.podCIDR = "10.244.3.0/24"

        n.api.edit(Node, "", "n1", give)
        await n.clock.sleep(10)
        assert n.cri.pod_cidr == "10.244.3.0/24"

    node.run(tmp_path, scenario)
