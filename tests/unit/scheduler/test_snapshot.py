from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kybern.scheduler import cycle, preempt
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.profile import default_profile
from kybern.scheduler.snapshot import LOG_LIMIT, Snapshot
from kybern.testing.scheduler_worlds import node, pod

NODES = ["n0", "n1", "n2", "n3"]
PROFILE = default_profile()
SHORT_PODS = st.fixed_dictionaries(
    {
        "requests": st.dictionaries(
            st.sampled_from(["cpu", "memory", "example.com/a", "example.com/b", "example.com/c"]),
            st.sampled_from(["1", "2", "3"]),
        ),
        "labels": st.dictionaries(st.sampled_from(["app", "x"]), st.sampled_from(["a", "b"])),
        "priority": st.integers(0, 3),
    }
)
SHORT_NODES = st.fixed_dictionaries(
    {
        "amounts": st.dictionaries(
            st.sampled_from(["cpu", "memory", "pods", "example.com/a", "example.com/b"]), st.sampled_from(["2", "5"])
        ),
        "labels": st.dictionaries(st.sampled_from(["zone"]), st.sampled_from(["a", "b"])),
    }
)
CHANGES = st.one_of(
    st.tuples(st.just("node"), st.sampled_from(NODES), SHORT_NODES),
    st.tuples(st.just("no node"), st.sampled_from(NODES), st.none()),
    st.tuples(st.just("pod"), st.integers(0, 9), st.tuples(SHORT_PODS, st.sampled_from(NODES))),
    st.tuples(st.just("no pod"), st.integers(0, 9), st.none()),
)


def columns(snapshot: Snapshot) -> dict[str, Any]:
    """What the columns say, by name."""
    found: dict[str, Any] = {}
    for name, row in snapshot.rows.items():
        amounts = {r: int(snapshot.requested[row, c]) for r, c in snapshot.resources.items()}
        found[name] = (
            {r: v for r, v in amounts.items() if v},
            int(snapshot.pod_count[row]),
            tuple(int(v) for v in snapshot.nonzero[row]),
            int(snapshot.per_node(np.ones(len(snapshot.pod_list), dtype=np.bool_))[row]),
        )
    return found


def naive(snapshot: Snapshot, nodes: set[str], pods: dict[str, tuple[PodInfo, str]]) -> dict[str, Any]:
    """The same, counted afresh."""
    found: dict[str, Any] = {}
    for name in nodes:
        here = [p for p, where in pods.values() if where == name]
        amounts = {r: sum(p.requests.get(r, 0) for p in here) for r in snapshot.resources}
        nonzero = tuple(sum(p.nonzero[i] for p in here) for i in (0, 1))
        found[name] = ({r: v for r, v in amounts.items() if v}, len(here), nonzero, len(here))
    return found


def loads(snapshot: Snapshot) -> Any:
    """Remembered by load, in whatever order changes come."""
    return snapshot.by_load("test", lambda rows: snapshot.nonzero[rows].sum(axis=1) + snapshot.pod_count[rows])


@given(st.lists(CHANGES, max_size=60))
def test_the_columns_agree_with_the_pods_that_are_in(changes: list[tuple[str, Any, Any]]) -> None:
    snapshot = Snapshot()
    nodes: set[str] = set()
    pods: dict[str, tuple[PodInfo, str]] = {}
    for what, who, detail in changes:
        match what:
            case "node":
                snapshot.put_node(node(who, detail))
                nodes.add(who)
            case "no node":
                snapshot.remove_node(who)
                nodes.discard(who)
            case "pod":
                info = pod(f"p{who}", detail[0])
                snapshot.add_pod(info, detail[1])
                pods[info.uid] = (info, detail[1])
            case "no pod":
                snapshot.remove_pod(f"p{who}")
                pods.pop(f"p{who}", None)
        assert columns(snapshot) == naive(snapshot, nodes, pods)
        assert list(loads(snapshot)) == [int(n) for n in snapshot.nonzero.sum(axis=1) + snapshot.pod_count]
    before = columns(snapshot)
    everyone = [p for p, _ in pods.values()]
    with snapshot.supposing(without=everyone, placed=[(pod("new", {"requests": {"cpu": "1"}}), "n0")]):
        assert len(snapshot.pods) == 1
    assert columns(snapshot) == before


@settings(max_examples=60)
@given(
    st.lists(SHORT_NODES, min_size=1, max_size=4),
    st.lists(SHORT_PODS, min_size=1, max_size=25),
    st.integers(0, 1000),
)
def test_no_node_is_ever_overcommitted(nodes: list[Any], pods: list[Any], seed: int) -> None:
    cluster, rng = Cluster(), random.Random(seed)
    for i, short in enumerate(nodes):
        cluster.snapshot.put_node(node(f"n{i}", short))
    snapshot = cluster.snapshot
    for i, short in enumerate(pods):
        info = pod(f"p{i}", short)
        decision, outcome = cycle.decide(info, cluster, PROFILE, rng)
        if decision.node:
            snapshot.add_pod(info, decision.node)
        else:
            plan = preempt.plan_preemption(info, cluster, outcome, PROFILE.filters)
            assert all(v.priority < info.priority for v in plan.victims)
            for victim in plan.victims:
                snapshot.remove_pod(victim.uid)
            if plan.node:
                again, _ = cycle.decide(info, cluster, PROFILE, rng)
                assert again.node, "victims were evicted for nothing"
                snapshot.add_pod(info, again.node)
        assert (snapshot.requested <= snapshot.allocatable).all()
        assert (snapshot.pod_count <= snapshot.pod_limit).all()


def test_a_pod_on_a_node_that_comes_later_counts_there() -> None:
    snapshot = Snapshot()
    snapshot.add_pod(pod("p", {"requests": {"cpu": "2"}}), "late")
    snapshot.put_node(node("late", {}))
    assert snapshot.requested[0, 0] == 2000


def test_amounts_beyond_all_bounds_do_not_overflow() -> None:
    snapshot = Snapshot()
    snapshot.put_node(node("n", {"amounts": {"memory": "9E"}}))
    for i in range(300):
        snapshot.add_pod(pod(f"p{i}", {"requests": {"memory": "9E", "cpu": "9E"}}), "n")
    assert (snapshot.requested >= 0).all()
    assert snapshot.requested[0, 1] > snapshot.allocatable[0, 1]


def test_taints_and_images_of_nodes_that_go_are_forgotten() -> None:
    snapshot = Snapshot()
    taints = [{"key": "k", "effect": "NoSchedule"}]
    snapshot.put_node(node("a", {"taints": taints, "images": [{"names": ["x:1"], "sizeBytes": 5}]}))
    snapshot.put_node(node("b", {}))
    snapshot.remove_node("a")
    assert snapshot.images == {}
    assert not snapshot.taint_bits.any()
    for i in range(1500):
        snapshot.put_node(node("b", {"taints": [{"key": f"k{i}", "effect": "NoSchedule"}]}))
    assert len(snapshot.taints) < 1100
    assert int(np.bitwise_count(snapshot.taint_bits).sum()) == 1


def test_what_is_remembered_by_load_is_computed_for_changed_nodes_only() -> None:
    snapshot = Snapshot()
    for number in range(9):
        snapshot.put_node(node(f"n{number}", {}))
    asked: list[list[int]] = []

    def compute(rows: Any) -> Any:
        asked.append(sorted(int(row) for row in rows))
        return snapshot.pod_count[rows]

    snapshot.by_load("k", compute)
    snapshot.add_pod(pod("a", {}), "n3")
    snapshot.add_pod(pod("b", {}), "n3")
    snapshot.add_pod(pod("c", {}), "n7")
    assert list(snapshot.by_load("k", compute)) == [0, 0, 0, 2, 0, 0, 0, 1, 0]
    assert asked == [list(range(9)), [3, 7]]
    snapshot.remove_node("n0")
    assert sum(snapshot.by_load("k", compute)) == 3 and len(asked[-1]) == 8


def test_a_log_of_loads_that_grew_too_long_starts_anew() -> None:
    snapshot = Snapshot()
    snapshot.put_node(node("n0", {}))
    snapshot.put_node(node("n1", {}))
    loads(snapshot)
    info = pod("a", {})
    for _ in range(LOG_LIMIT // 2 + 10):
        snapshot.add_pod(info, "n1")
        snapshot.remove_pod("a")
    snapshot.add_pod(pod("b", {}), "n0")
    assert list(loads(snapshot)) == [int(n) for n in snapshot.nonzero.sum(axis=1) + snapshot.pod_count]
    assert len(snapshot._load_log) <= LOG_LIMIT
