"""What a node turns away, and why."""

import pytest

from kybern.api.core_v1 import (
    Affinity,
    Container,
    ContainerPort,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    NodeSpec,
    NodeStatus,
    Pod,
    PodOS,
    PodSecurityContext,
    PodSpec,
    ResourceRequirements,
    Sysctl,
    Taint,
    Toleration,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet.admission import Room, admit
from kybern.kubelet.failures import Rejected

NODE = Node(metadata=ObjectMeta(name="n1", labels={"zone": "a", "size": "5"}))


def pod(cpu="", port=0, **spec):
    resources = ResourceRequirements(requests={"cpu": Quantity(cpu)} if cpu else {})
    ports = [ContainerPort(containerPort=80, hostPort=port)] if port else []
    return Pod(spec=PodSpec(containers=[Container(name="c", resources=resources, ports=ports)], **spec))


def reason_of(tested, *, others=(), node=NODE, pods="10"):
    room = Room(node, {"cpu": "1", "memory": "1Gi", "pods": pods}, others)
    try:
        admit(tested, room)
    except Rejected as rejected:
        return rejected.reason, rejected.message
    return "", ""


def test_a_pod_that_fits_is_taken():
    assert reason_of(pod("500m"), others=[pod("500m")]) == ("", "")


def test_a_pod_that_asks_for_more_than_is_left_is_turned_away():
    reason, message = reason_of(pod("600m"), others=[pod("500m")])
    assert reason == "OutOfcpu"
    assert message == "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"
    assert reason_of(pod("600m", priority=2_000_000_000), others=[pod("500m")])[0] == ""


def test_a_full_node_takes_no_more_pods():
    assert reason_of(pod(), others=[pod(), pod()], pods="2")[0] == "OutOfpods"


def test_extended_resources_are_counted_where_the_node_has_them_and_are_else_the_clusters():
    def wants(count):
        tested = pod()
        tested.spec.containers[0].resources.requests["example.com/gpu"] = Quantity(count)
        return tested

    node = Node(metadata=NODE.metadata, status=NodeStatus(allocatable={"example.com/gpu": Quantity("2")}))
    assert reason_of(wants("1"))[0] == ""
    assert reason_of(wants("1"), others=[wants("1")], node=node)[0] == ""
    assert reason_of(wants("2"), others=[wants("1")], node=node)[0] == "OutOfexample.com/gpu"


def test_node_selectors_and_affinity_must_match():
    assert reason_of(pod(nodeSelector={"zone": "a"}))[0] == ""
    assert reason_of(pod(nodeSelector={"zone": "b"}))[0] == "NodeAffinity"


@pytest.mark.parametrize(
    ("key", "operator", "values", "matches"),
    [
        ("zone", "In", ["a", "b"], True),
        ("zone", "NotIn", ["a"], False),
        ("other", "NotIn", ["a"], True),
        ("zone", "Exists", [], True),
        ("zone", "DoesNotExist", [], False),
        ("size", "Gt", ["4"], True),
        ("size", "Lt", ["5"], False),
        ("zone", "Gt", ["4"], False),
    ],
)
def test_required_affinity_knows_every_operator(key, operator, values, matches):
    term = NodeSelectorTerm(matchExpressions=[NodeSelectorRequirement(key=key, operator=operator, values=values)])
    required = NodeSelector(nodeSelectorTerms=[NodeSelectorTerm(), term])
    affinity = Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))
    assert (reason_of(pod(affinity=affinity))[0] == "") is matches


def test_a_host_port_can_be_had_once():
    assert reason_of(pod(port=8080), others=[pod(port=8081)])[0] == ""
    assert reason_of(pod(port=8080), others=[pod(port=8080)])[0] == "NodePorts"


def test_only_no_execute_taints_turn_a_bound_pod_away():
    tainted = Node(spec=NodeSpec(taints=[Taint(key="k", value="v", effect="NoExecute")]))
    soft = Node(spec=NodeSpec(taints=[Taint(key="k", value="v", effect="NoSchedule")]))
    assert reason_of(pod(), node=tainted)[0] == "TaintToleration"
    assert reason_of(pod(), node=soft)[0] == ""
    for toleration in (
        Toleration(operator="Exists"),
        Toleration(key="k", operator="Exists"),
        Toleration(key="k", value="v", effect="NoExecute"),
    ):
        assert reason_of(pod(tolerations=[toleration]), node=tainted)[0] == ""
    assert reason_of(pod(tolerations=[Toleration(key="k", value="w")]), node=tainted)[0] == "TaintToleration"


def test_unsafe_sysctls_and_other_systems_are_refused():
    unsafe = PodSecurityContext(sysctls=[Sysctl(name="kernel.msgmax", value="1")])
    assert reason_of(pod(securityContext=unsafe))[0] == "SysctlForbidden"
    assert reason_of(pod(os=PodOS(name="windows")))[0] == "PodOSNotSupported"
