from __future__ import annotations

from typing import Any

import pytest

from kybern.api.core_v1 import Binding, Node, NodeSpec, ObjectReference, Taint, Toleration
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.node_v1 import Overhead, RuntimeClass, Scheduling
from kybern.api.scalars import Quantity
from kybern.testing.gate import Gate, pod


def runtime_class(name: str = "kata", overhead: str = "250m") -> RuntimeClass:
    return RuntimeClass(
        metadata=ObjectMeta(name=name),
        handler="h",
        overhead=Overhead(podFixed={"cpu": Quantity(overhead)}) if overhead else None,
        scheduling=Scheduling(nodeSelector={"a": "b"}, tolerations=[Toleration(key="t", operator="Exists")]),
    )


class TestRuntimeClass:
    def gate(self) -> Gate:
        gate = Gate()
        gate.objects.put(runtime_class())
        gate.objects.put(runtime_class("light", ""))
        return gate

    def test_the_class_gives_overhead_and_place(self) -> None:
        made = self.gate().create(pod(runtimeClassName="kata", nodeSelector={"x": "y"}))
        assert made.spec.overhead == {"cpu": "250m"}
        assert made.spec.nodeSelector == {"a": "b", "x": "y"}
        assert [t.key for t in made.spec.tolerations if t.key == "t"] == ["t"]
        assert self.gate().create(made).spec == made.spec

    @pytest.mark.parametrize(
        ("spec", "why"),
        [
            ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
            (
                {"runtimeClassName": "kata", "nodeSelector": {"a": "c"}},
                "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c",
            ),
            (
                {"runtimeClassName": "kata", "overhead": {"cpu": Quantity("1")}},
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                {"overhead": {"cpu": Quantity("1")}},
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                {"runtimeClassName": "light", "overhead": {"cpu": Quantity("1")}},
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            ({"runtimeClassName": "light"}, ""),
        ],
    )
    def test_what_contradicts_the_class_is_refused(self, spec: dict[str, Any], why: str) -> None:
        gate = self.gate()
        assert gate.refusal(gate.create, pod(**spec)) == (f'pods "p" is forbidden: {why}' if why else "")


class TestTaintNodesByCondition:
    def test_a_new_node_is_not_ready_and_says_so_once(self) -> None:
        made = Gate().create(Node(metadata=ObjectMeta(name="n")))
        assert [(t.key, t.effect) for t in made.spec.taints] == [("node.kubernetes.io/not-ready", "NoSchedule")]
        own = Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")
        kept = Gate().create(Node(metadata=ObjectMeta(name="n"), spec=NodeSpec(taints=[own])))
        assert kept.spec.taints == [own]


class TestPodTopologyLabels:
    def gate(self) -> Gate:
        gate = Gate()
        labels = {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"}
        gate.objects.put(Node(metadata=ObjectMeta(name="n", labels=labels)))
        return gate

    def bind(self, node: str) -> Binding:
        """The binding as admitted: its labels become the pod's."""
        gate, binding = (
            self.gate(),
            Binding(metadata=ObjectMeta(name="p"), target=ObjectReference(kind="Node", name=node)),
        )
        write = gate.attributes("CREATE", pod(), subresource="binding")
        write.object = binding
        assert gate.chain.admit(write) is None
        return binding

    def test_a_bound_pod_gets_its_nodes_zone_and_region(self) -> None:
        made = self.bind("n")
        assert made.metadata.labels == {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"}

    def test_others_keep_their_labels(self) -> None:
        assert self.gate().create(pod()).metadata.labels == {}
        assert self.gate().update(pod(nodeName="n"), pod(nodeName="n")).metadata.labels == {}
        assert self.bind("gone").metadata.labels == {}
