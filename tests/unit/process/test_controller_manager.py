"""The controller manager: its flags, and all its controllers together on a fake API."""

import asyncio
import random

import pytest

from kybern.api.apps_v1 import Deployment, DeploymentSpec
from kybern.api.core_v1 import Container, Namespace, Pod, PodSpec, PodTemplateSpec, ServiceAccount
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.client.informer import Informers
from kybern.controllers import registry
from kybern.controllers.runtime import Context
from kybern.machinery import metrics
from kybern.machinery.status import ApiError
from kybern.process import controller_manager
from kybern.process.controller_manager import Manager, Options
from kybern.process.health import add_queues
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi
from kybern.testing.fake_kubelet import FakeKubelet

LABELS = {"app": "x"}


def test_flags_choose_controllers():
    everything = list(registry.CONTROLLERS)
    usual = [n for n in everything if n not in registry.OFF_BY_DEFAULT]
    assert registry.select(["*"]) == usual
    assert registry.select(["*", "-job-controller"]) == [n for n in usual if n != "job-controller"]
    assert registry.select(["job-controller", "namespace-controller"]) == ["job-controller", "namespace-controller"]
    assert everything[-1] == "garbage-collector-controller", "it shares the informers of all others"
    with pytest.raises(ValueError, match="no such controllers: nonsense"):
        registry.select(["*", "nonsense"])


def test_files_are_read_and_missing_ones_told(tmp_path):
    (tmp_path / "ca.crt").write_text("PEM")
    settings = controller_manager.settings_of(Options(root_ca_file=str(tmp_path / "ca.crt"), node_cidr_mask_size=25))
    assert (settings.root_ca, settings.service_account_key, settings.node_cidr_mask_size) == ("PEM", b"", 25)
    with pytest.raises(OSError, match="nowhere"):
        controller_manager.settings_of(Options(root_ca_file=str(tmp_path / "nowhere")))


def drive(scenario):
    async def main(clock):
        api = FakeApi(clock)
        client = api.client()
        context = Context(client, Informers(client, clock, random.Random(1)), clock, random.Random(2))
        manager = Manager(context, registry.select(["*"]))
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(manager.run()),
                tasks.create_task(FakeKubelet(api.client(), clock).run()),
            ]
            result = await scenario(api, client, clock, manager)
            for task in running:
                task.cancel()
        return result

    return virtual.run(main)


async def use(client, clock, api):
    await client.create(Namespace(metadata=ObjectMeta(name="ns")))
    template = PodTemplateSpec(metadata=ObjectMeta(labels=LABELS), spec=PodSpec(containers=[Container(name="c")]))
    spec = DeploymentSpec(replicas=3, selector=LabelSelector(matchLabels=LABELS), template=template)
    await client.create(Deployment(metadata=ObjectMeta(name="d", namespace="ns"), spec=spec))
    for _ in range(200):
        await clock.sleep(0.5)
        found = api.get(Deployment, "ns", "d")
        if found.status.availableReplicas == 3:
            return True
    return False


def test_all_controllers_together_bring_a_deployment_up_and_a_namespace_down():
    async def scenario(api, client, clock, manager):
        up = await use(client, clock, api)
        account = api.get(ServiceAccount, "ns", "default") is not None
        await client.delete(Namespace, "", "ns")
        for _ in range(120):
            await clock.sleep(0.5)
            if api.get(Namespace, "", "ns") is None:
                break
        registry = metrics.Registry()
        add_queues(
            registry, lambda: [(loop.name, loop.queue.metrics()) for c in manager.controllers for loop in c.loops]
        )
        is_counted = 'workqueue_depth{name="deployment-controller"} 0' in registry.render().decode()
        return up, account, api.list(Pod), api.get(Namespace, "", "ns"), is_counted

    assert drive(scenario) == (True, True, [], None, True)


def test_a_resource_that_is_not_served_holds_up_nobody_else():
    async def scenario(api, client, clock, manager):
        for what in ("list ipaddresses", "list horizontalpodautoscalers", "list certificatesigningrequests"):
            api.react(what, lambda call: ApiError.no_such_path())
        return await use(client, clock, api)

    assert drive(scenario)
