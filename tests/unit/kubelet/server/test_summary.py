"""Usage: samples, rates, and how they are told."""

from __future__ import annotations

import datetime
from pathlib import Path

from kybern.api.core_v1 import Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.cri.contract import ContainerId, ContainerUsage
from kybern.kubelet.server import exposition, sampler, summary
from kybern.kubelet.server.summary import NodeSample

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
POD = Pod(metadata=ObjectMeta(namespace="ns", name="p", uid="u"))


def node(seconds: float = 0, cpu: float = 0) -> NodeSample:
    return NodeSample(
        NOW + datetime.timedelta(seconds=seconds), NOW, int(cpu * 1e9), 1000, 600, 700, 300, 1, 2, 50, 20,
        (("eth0", 1, 0, 2, 0),), (100, 40, 10, 4), 5, 32768,
    )  # fmt: skip


def container(seconds: float, cpu: float, name: str = "c") -> ContainerUsage:
    labels = {
        "io.kubernetes.pod.uid": "u",
        "io.kubernetes.pod.name": "p",
        "io.kubernetes.pod.namespace": "ns",
        "io.kubernetes.container.name": name,
    }
    stamp = int((NOW.timestamp() + seconds) * 1e9)
    return ContainerUsage(ContainerId("id-" + name), name, labels, stamp, int(cpu * 1e9), 64, 80, 32)


def test_rates_need_two_samples_and_survive_a_pause() -> None:
    first = sampler.plan_usage(None, node(0, 10), [container(0, 1)])
    assert (first.node_nanocores, dict(first.nanocores)) == (None, {})
    second = sampler.plan_usage(first, node(10, 15), [container(10, 3)])
    assert (second.node_nanocores, dict(second.nanocores)) == (500_000_000, {"id-c": 200_000_000})
    third = sampler.plan_usage(second, node(10.5, 15), [container(10.5, 3)])
    assert (third.node_nanocores, dict(third.nanocores)) == (500_000_000, {"id-c": 200_000_000})


def test_a_restarted_counter_is_no_negative_rate() -> None:
    first = sampler.plan_usage(None, node(0, 10), [container(0, 5)])
    assert dict(sampler.plan_usage(first, node(10, 11), [container(10, 1)]).nanocores) == {}


def test_a_pods_usage_is_that_of_its_containers() -> None:
    first = sampler.plan_usage(None, node(0), [container(0, 0), container(0, 0, "d")])
    usage = sampler.plan_usage(first, node(10), [container(10, 1), container(10, 2, "d")])
    (pod,) = summary.pod_summaries([POD, Pod(metadata=ObjectMeta(name="idle", uid="v"))], usage)
    assert pod["podRef"] == {"name": "p", "namespace": "ns", "uid": "u"}
    assert pod["cpu"]["usageNanoCores"] == 300_000_000
    assert pod["memory"]["workingSetBytes"] == 128
    assert [c["name"] for c in pod["containers"]] == ["c", "d"]


def test_the_nodes_working_set_is_what_is_not_available() -> None:
    told = summary.node_summary("n", sampler.plan_usage(None, node(), []))
    assert told["memory"]["workingSetBytes"] == 400
    assert told["fs"] == {
        "time": "2026-01-01T00:00:00Z", "availableBytes": 40, "capacityBytes": 100, "usedBytes": 60,
        "inodesFree": 4, "inodes": 10, "inodesUsed": 6,
    }  # fmt: skip
    assert told["swap"]["swapUsageBytes"] == 30
    assert told["network"]["rxBytes"] == 1


def test_metrics_for_metrics_server_carry_their_times() -> None:
    text = exposition.resource_metrics([POD], sampler.plan_usage(None, node(0, 7), [container(0, 1.5)]))
    ms = int(NOW.timestamp() * 1000)
    assert f'container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="p"}} 1.5 {ms}\n' in text
    assert f'pod_memory_working_set_bytes{{namespace="ns",pod="p"}} 64 {ms}\n' in text
    assert f"node_cpu_usage_seconds_total 7 {ms}\n" in text
    assert "resource_scrape_error 0\n" in text
    assert 'container_memory_rss{container="c",id="id-c",namespace="ns",pod="p"} 32' in exposition.cadvisor_metrics(
        sampler.plan_usage(None, node(), [container(0, 1)]), 2
    )


def test_proc_is_understood() -> None:
    assert sampler.parse_meminfo("MemTotal:  10 kB\nHugePages_Total: 3\nOdd:\n") == {
        "MemTotal": 10240,
        "HugePages_Total": 3,
    }
    assert sampler.parse_stat("cpu  100 0 50 1000 5 0 1 2 0 0\nbtime 1700000000\n", 100) == (1_530_000_000, 1700000000)
    device = "h1\nh2\n    lo: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0\n  eth0: 11 0 1 0 0 0 0 0 22 0 2 0 0 0 0 0\n"
    assert sampler.parse_interfaces(device) == (("eth0", 11, 1, 22, 2),)


def test_this_machine_can_be_sampled() -> None:
    found = sampler.read_node(Path("/proc"), Path("/"), NOW)
    assert found.cpu_ns > 0
    assert 0 < found.memory_available < found.memory_total
    assert found.processes > 0
