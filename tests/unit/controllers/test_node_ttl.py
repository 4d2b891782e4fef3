import pytest

from kybern.api.core_v1 import Node
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import node_ttl
from kybern.testing import control_plane


@pytest.mark.parametrize(
    ("before", "nodes", "seconds"),
    [
        (0, 0, 0), (0, 100, 0), (0, 101, 15), (1, 90, 15), (1, 89, 0), (1, 500, 15), (1, 501, 30), (2, 450, 30),
        (2, 449, 15), (0, 5000, 300), (0, 20000, 600), (5, 3, 0),
    ],
)  # fmt: skip
def test_steps_overlap_so_that_a_cluster_at_a_boundary_does_not_swing(before, nodes, seconds):
    assert node_ttl.STEPS[node_ttl.plan_step(before, nodes)][2] == seconds


def ttls(counts):
    """What the nodes say after the cluster has grown or shrunk to each size."""

    async def scenario(plane):
        found, size = [], 0
        for count in counts:
            for i in range(size, count):
                plane.api.put(Node(metadata=ObjectMeta(name=f"n{i}")))
            for i in range(count, size):
                plane.api.remove(Node, "", f"n{i}")
            size = count
            await plane.clock.sleep(30)
            found.append({n.metadata.annotations.get(node_ttl.ANNOTATION) for n in plane.api.list(Node)})
        return found

    return control_plane.run(["ttl-controller"], scenario, node=False)


def test_every_node_is_annotated_by_the_size_of_the_cluster():
    assert ttls([1, 101, 95, 89]) == [{"0"}, {"15"}, {"15"}, {"0"}]
