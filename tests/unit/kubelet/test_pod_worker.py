"""Pods from their first sight to their last trace, on a kubelet with fakes around it."""

import pytest

from kybern.api.core_v1 import (
    ConfigMap,
    ConfigMapEnvSource,
    ConfigMapVolumeSource,
    EmptyDirVolumeSource,
    EnvFromSource,
    ExecAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    ResourceRequirements,
    SleepAction,
    Volume,
    VolumeMount,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet.cri.contract import CriError
from kybern.testing import node
from kybern.testing.fake_cri import Script
from kybern.testing.node import container


def phase(text):
    return lambda pod: pod.status.phase == text


def ready(pod):
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def waits_for(reason):
    return lambda pod: any(s.state.waiting and s.state.waiting.reason == reason for s in pod.status.containerStatuses)


def restarts(count):
    return lambda pod: pod.status.containerStatuses and pod.status.containerStatuses[0].restartCount >= count


async def delete(n, grace=None, name="p"):
    await n.api.client().delete(Pod, "ns", name, grace_period=grace)


def test_a_pod_starts_within_a_moment_and_tells_its_address(tmp_path):
    async def scenario(n):
        began = n.clock.monotonic()
        n.add(container("a"), container("b"))
        pod = await n.until(ready)
        assert n.clock.monotonic() - began < 1.0
        assert pod.status.podIP.startswith("10.0.0.")
        assert n.cri.running() == ["a", "b"]
        assert "/kubepods/besteffort/poduid-p" in n.hierarchy.groups
        assert ("Started", "Started container a") in n.events()

    node.run(tmp_path, scenario)


def test_init_containers_run_first_and_one_by_one(tmp_path):
    async def scenario(n):
        n.cri.scripts = {"i": Script(exit_code=0), "j": Script(exit_code=0)}
        n.add(container("a"), initContainers=[container("i"), container("j")])
        await n.until(ready)
        created = [c.status.name for c in n.cri._containers.values()]
        assert created == ["i", "j", "a"]

    node.run(tmp_path, scenario)


def test_a_job_like_pod_succeeds_and_leaves_nothing_but_its_logs(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exit_code=0)
        n.add(container(), restartPolicy="Never")
        pod = await n.until(phase("Succeeded"))
        assert pod.status.containerStatuses[0].state.terminated.reason == "Completed"
        await n.clock.sleep(1)
        assert all("poduid-p" not in group for group in n.hierarchy.groups)
        assert not (tmp_path / "kubelet/pods/uid-p").exists()
        assert len(n.cri._containers) == 1
        await delete(n)
        await n.until_gone()
        await n.clock.sleep(1)
        assert not n.cri._containers
        assert not n.cri._sandboxes

    node.run(tmp_path, scenario)


def test_a_crashing_container_is_restarted_ever_more_slowly(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exit_code=1)
        n.add(container())
        pod = await n.until(waits_for("CrashLoopBackOff"))
        message = pod.status.containerStatuses[0].state.waiting.message
        assert message == "back-off 10s restarting failed container=c pod=p_ns(uid-p)"
        await n.until(restarts(2))
        began = n.clock.monotonic()
        await n.until(restarts(3))
        assert 19 < n.clock.monotonic() - began < 22
        assert [reason for reason, _ in n.events()].count("BackOff") >= 1
        assert len(n.cri._containers) <= 3

    node.run(tmp_path, scenario)


def test_a_deleted_pod_is_stopped_in_its_grace_period_and_then_goes(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(ignores_stop=True)
        n.add(container(), terminationGracePeriodSeconds=5)
        await n.until(ready)
        began = n.clock.monotonic()
        await delete(n)
        await n.until_gone()
        assert 5 <= n.clock.monotonic() - began < 6.5
        await n.clock.sleep(1)
        assert n.cri.running() == []
        assert not (tmp_path / "logs").glob("*") or list((tmp_path / "logs").iterdir()) == []

    node.run(tmp_path, scenario)


def test_a_shorter_grace_period_cuts_the_longer_one_short(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(ignores_stop=True)
        n.add(container(), terminationGracePeriodSeconds=300)
        await n.until(ready)
        await delete(n)
        await n.clock.sleep(3)
        began = n.clock.monotonic()
        await delete(n, grace=2)
        await n.until_gone()
        assert n.clock.monotonic() - began < 5

    node.run(tmp_path, scenario)


def test_a_pod_that_vanishes_from_the_api_is_ended_all_the_same(tmp_path):
    async def scenario(n):
        n.add(container())
        await n.until(ready)
        n.api.remove(Pod, "ns", "p")
        await n.clock.sleep(3)
        assert n.cri.running() == []
        assert not n.cri._sandboxes
        assert len(n.kubelet.workers) == 0

    node.run(tmp_path, scenario)


def test_a_pod_that_is_out_of_time_fails(tmp_path):
    async def scenario(n):
        n.add(container(), activeDeadlineSeconds=20)
        await n.until(ready)
        pod = await n.until(phase("Failed"))
        assert pod.status.reason == "DeadlineExceeded"
        await n.clock.sleep(1)
        assert n.cri.running() == []

    node.run(tmp_path, scenario)


def test_pods_go_on_while_the_kubelet_is_away(tmp_path):
    async def scenario(n):
        n.add(container())
        before = await n.until(ready)
        await n.restart()
        await n.clock.sleep(5)
        after = n.pod()
        assert ready(after)
        assert after.status.containerStatuses[0].containerID == before.status.containerStatuses[0].containerID
        assert n.cri.calls.count("run_sandbox") == 1
        assert n.cri.calls.count("start_container") == 1

    node.run(tmp_path, scenario)


def test_what_was_deleted_while_the_kubelet_was_away_is_ended(tmp_path):
    async def scenario(n):
        n.add(container())
        await n.until(ready)
        await n.stop()
        n.api.remove(Pod, "ns", "p")
        n.kubelet = n._build()
        n.start(n._tasks)
        await n.clock.sleep(40)
        assert n.cri.running() == []
        assert not n.cri._sandboxes
        assert list(n.hierarchy.children("/kubepods/besteffort")) == []
        assert list((tmp_path / "kubelet/pods").iterdir()) == []

    node.run(tmp_path, scenario)


def test_a_dead_sandbox_is_replaced(tmp_path):
    async def scenario(n):
        n.add(container())
        before = await n.until(ready)
        n.cri.fail_sandbox(next(iter(n.cri._sandboxes)))
        after = await n.until(lambda pod: ready(pod) and pod.status.podIP != before.status.podIP)
        assert after.status.containerStatuses[0].restartCount == 1
        assert len(after.status.podIPs) == 1

    node.run(tmp_path, scenario)


def test_failures_of_the_runtime_are_tried_again(tmp_path):
    async def scenario(n):
        n.cri.failures = {
            "run_sandbox": [CriError("RunPodSandbox", "Unknown", "no network")] * 2,
            "create_container": [CriError("CreateContainer", "Unknown", "no space")],
            "start_container": [CriError("StartContainer", "Unknown", "no exec")],
            "list_sandboxes": [CriError("ListPodSandbox", "Unavailable", "busy")] * 3,
        }
        n.add(container())
        await n.until(ready)
        reasons = [reason for reason, _ in n.events()]
        assert "FailedCreatePodSandBox" in reasons
        assert "Failed" in reasons

    node.run(tmp_path, scenario)


def test_an_image_that_cannot_be_had_is_waited_for(tmp_path):
    async def scenario(n):
        n.add(container(image="missing:1"), container("b"))
        await n.until(waits_for("ErrImagePull"))
        await n.until(waits_for("ImagePullBackOff"))
        assert n.cri.running() == ["b"]
        n.cri.remote["missing:1"] = n.cri.add_image("other:1")
        await n.until(ready)

    node.run(tmp_path, scenario)


# Configuration and volumes.


def test_a_container_waits_for_its_config_map_and_starts_once_it_is_there(tmp_path):
    async def scenario(n):
        n.add(container(envFrom=[EnvFromSource(configMapRef=ConfigMapEnvSource(name="m"))]))
        await n.until(waits_for("CreateContainerConfigError"))
        began = n.clock.monotonic()
        n.api.put(ConfigMap(metadata=ObjectMeta(name="m", namespace="ns"), data={"K": "v"}))
        await n.until(ready)
        assert n.clock.monotonic() - began < 1.0
        made = next(iter(n.cri._containers.values()))
        assert dict(made.config.env)["K"] == "v"

    node.run(tmp_path, scenario)


def test_files_follow_the_config_map_they_show(tmp_path):
    async def scenario(n):
        n.api.put(ConfigMap(metadata=ObjectMeta(name="m", namespace="ns"), data={"k": "one"}))
        n.add(
            container(volumeMounts=[VolumeMount(name="v", mountPath="/v")]),
            volumes=[Volume(name="v", configMap=ConfigMapVolumeSource(name="m"))],
        )
        await n.until(ready)
        mounted = next(iter(n.cri._containers.values())).config.mounts[0]
        file = tmp_path / "kubelet/pods/uid-p/volumes/kubernetes.io~configmap/v/k"
        assert (mounted.container_path, mounted.host_path, mounted.readonly) == ("/v", str(file.parent), True)
        assert file.read_text() == "one"
        n.api.edit(ConfigMap, "ns", "m", lambda m: m.data.update(k="two"))
        await n.clock.sleep(1)
        assert file.read_text() == "two"

    node.run(tmp_path, scenario)


def test_a_volume_that_cannot_be_made_ready_holds_the_pod_back(tmp_path):
    async def scenario(n):
        volume = Volume(name="v", configMap=ConfigMapVolumeSource(name="m"))
        n.add(container(volumeMounts=[VolumeMount(name="v", mountPath="/v")]), volumes=[volume])
        await n.clock.sleep(5)
        assert n.cri.calls.count("run_sandbox") == 0
        assert ("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "m" not found') in n.events()
        n.api.put(ConfigMap(metadata=ObjectMeta(name="m", namespace="ns")))
        await n.until(ready)

    node.run(tmp_path, scenario)


def test_every_container_gets_hosts_and_a_place_for_its_last_words(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exit_code=3)
        volumes = [Volume(name="e", emptyDir=EmptyDirVolumeSource())]
        n.add(container(volumeMounts=[VolumeMount(name="e", mountPath="/e")]), restartPolicy="Never", volumes=volumes)
        pod = await n.until(phase("Failed"))
        mounts = {m.container_path: m for m in next(iter(n.cri._containers.values())).config.mounts}
        assert set(mounts) == {"/e", "/etc/hosts", "/dev/termination-log"}
        assert pod.status.containerStatuses[0].state.terminated.exitCode == 3

    node.run(tmp_path, scenario)


# Probes and hooks.


def test_a_container_is_ready_when_its_probe_says_so(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exec_codes=(1, 1))
        probe = Probe(exec=ExecAction(command=["x"]), periodSeconds=5, initialDelaySeconds=3, timeoutSeconds=1)
        n.add(container(readinessProbe=probe))
        await n.until(phase("Running"))
        began = n.clock.monotonic()
        assert not ready(n.pod())
        await n.until(ready)
        assert 12 < n.clock.monotonic() - began < 15
        assert any(reason == "Unhealthy" for reason, _ in n.events())

    node.run(tmp_path, scenario)


def test_a_container_that_fails_liveness_is_restarted(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exec_codes=(0, 1, 1))
        probe = Probe(exec=ExecAction(command=["x"]), periodSeconds=1, failureThreshold=2, timeoutSeconds=1)
        n.add(container(livenessProbe=probe))
        pod = await n.until(restarts(1))
        assert ("Killing", "Container c failed liveness probe, will be restarted") in n.events()
        assert pod.status.phase == "Running"

    node.run(tmp_path, scenario)


def test_liveness_waits_for_startup(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exec_codes=(1, 1, 1, 0))
        startup = Probe(exec=ExecAction(command=["s"]), periodSeconds=1, failureThreshold=10, timeoutSeconds=1)
        liveness = Probe(exec=ExecAction(command=["l"]), periodSeconds=1, failureThreshold=1, timeoutSeconds=1)
        n.add(container(startupProbe=startup, livenessProbe=liveness))
        await n.until(phase("Running"))
        await n.until(ready)
        assert n.pod().status.containerStatuses[0].restartCount == 0

    node.run(tmp_path, scenario)


def test_a_failed_post_start_hook_stops_the_container(tmp_path):
    async def scenario(n):
        n.cri.scripts["c"] = Script(exec_codes=(1,))
        hook = LifecycleHandler(exec=ExecAction(command=["x"]))
        n.add(container(lifecycle=Lifecycle(postStart=hook)))
        await n.until(restarts(1))
        assert any(reason == "FailedPostStartHook" for reason, _ in n.events())

    node.run(tmp_path, scenario)


def test_pre_stop_uses_up_the_grace_period_before_the_stop_signal(tmp_path):
    async def scenario(n):
        hook = LifecycleHandler(sleep=SleepAction(seconds=7))
        n.add(container(lifecycle=Lifecycle(preStop=hook)))
        await n.until(ready)
        began = n.clock.monotonic()
        await delete(n)
        await n.until_gone()
        assert 7 <= n.clock.monotonic() - began < 8.5

    node.run(tmp_path, scenario)


def test_sidecars_outlive_what_they_serve(tmp_path):
    async def scenario(n):
        order = []
        stop = n.cri.stop_container

        async def noted(ident, grace):
            await stop(ident, grace)
            order.append(n.cri._containers[ident].status.name)

        n.cri.stop_container = noted
        n.cri.scripts["a"] = Script(ignores_stop=True)
        sidecars = [container("s", restartPolicy="Always"), container("t", restartPolicy="Always")]
        n.add(container("a"), initContainers=sidecars, terminationGracePeriodSeconds=5)
        await n.until(ready)
        await delete(n)
        await n.until_gone()
        assert order == ["a", "t", "s"]

    node.run(tmp_path, scenario)


# Admission and resizing.


def test_a_pod_too_many_is_turned_away_and_stays_so(tmp_path):
    async def scenario(n):
        big = ResourceRequirements(requests={"cpu": Quantity("3")})
        n.add(container(resources=big), name="one")
        await n.until(ready, "one")
        n.add(container(resources=big), name="two")
        pod = await n.until(phase("Failed"), "two")
        assert pod.status.reason == "OutOfcpu"
        assert pod.status.message.startswith("Pod was rejected: Node didn't have enough resource: cpu")
        assert n.cri.calls.count("run_sandbox") == 1
        await delete(n, name="two")
        await n.until_gone("two")

    node.run(tmp_path, scenario)


@pytest.mark.parametrize("policy", ["NotRequired", "RestartContainer"])
def test_a_resize_is_granted_and_applied(tmp_path, policy):
    async def scenario(n):
        from kybern.api.core_v1 import ContainerResizePolicy

        def needs(cpu):
            return ResourceRequirements(requests={"cpu": Quantity(cpu)})

        rules = [ContainerResizePolicy(resourceName="cpu", restartPolicy=policy)]
        n.add(container(resources=needs("1"), resizePolicy=rules))
        await n.until(ready)

        def grow(cpu):
            def change(pod):
                pod.spec.containers[0].resources = needs(cpu)
                pod.metadata.generation += 1

            return change

        n.api.edit(Pod, "ns", "p", grow("2"))
        expected = 1 if policy == "RestartContainer" else 0

        def resized(pod):
            shown = pod.status.containerStatuses[0]
            return shown.allocatedResources.get("cpu") == "2" and shown.restartCount == expected and ready(pod)

        await n.until(resized)
        assert n.hierarchy.groups["/kubepods/burstable/poduid-p"].cpu_shares == 2048
        assert n.cri.calls.count("update_resources") == 1 - expected
        n.api.edit(Pod, "ns", "p", grow("9"))
        pod = await n.until(lambda p: any(c.type == "PodResizePending" for c in p.status.conditions))
        assert next(c.reason for c in pod.status.conditions if c.type == "PodResizePending") == "Infeasible"
        assert pod.status.containerStatuses[0].allocatedResources["cpu"] == "2"

    node.run(tmp_path, scenario)


def test_a_changed_image_replaces_the_container(tmp_path):
    async def scenario(n):
        n.add(container())
        await n.until(ready)

        def change(pod):
            pod.spec.containers[0].image = "app:2"
            pod.metadata.generation += 1

        n.api.edit(Pod, "ns", "p", change)
        pod = await n.until(restarts(1))
        assert pod.status.containerStatuses[0].image == "app:2"
        assert pod.status.observedGeneration == pod.metadata.generation

    node.run(tmp_path, scenario)


def test_static_pods_run_and_are_shown_and_come_back_when_their_picture_is_deleted(tmp_path):
    async def scenario(n):
        meta, spec = "{name: s, namespace: ns}", "{containers: [{name: c, image: 'app:1'}]}"
        manifest = f"apiVersion: v1\nkind: Pod\nmetadata: {meta}\nspec: {spec}\n".encode()
        (tmp_path / "manifests").mkdir()
        (tmp_path / "manifests/s.yaml").write_bytes(manifest)
        await n.until(ready, "s-n1")
        await n.api.client().delete(Pod, "ns", "s-n1", grace_period=0)
        await n.clock.sleep(5)
        await n.until(ready, "s-n1")
        assert n.cri.calls.count("run_sandbox") == 1
        (tmp_path / "manifests/s.yaml").unlink()
        await n.clock.sleep(40)
        assert n.cri.running() == []
        assert n.pod("s-n1") is None

    node.run(tmp_path, scenario, manifests=str(tmp_path / "manifests"))


def test_a_fault_in_one_pods_worker_is_not_the_others(tmp_path):
    async def scenario(n):
        n.add(container(), name="good")
        n.add(container(), name="bad")
        await n.until(ready, "good")
        await n.until(ready, "bad")

        async def broken():
            raise RuntimeError("boom")

        worker = n.kubelet.workers.find_worker("uid-bad")
        worker._safe_turn = broken
        worker.poke()
        await n.clock.sleep(5)
        assert n.kubelet.workers.find_worker("uid-bad") is not worker
        assert n.cri.calls.count("run_sandbox") == 2
        for name in ("good", "bad"):
            assert ready(n.pod(name))
            await delete(n, name=name)
            await n.until_gone(name)

    node.run(tmp_path, scenario)
