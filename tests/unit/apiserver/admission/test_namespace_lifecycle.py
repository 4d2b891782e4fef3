from __future__ import annotations

import pytest

from kybern.api import codec, scalars
from kybern.api.core_v1 import ConfigMap, Namespace, ServiceAccount
from kybern.api.meta_v1 import ObjectMeta
from kybern.machinery.status import ApiError
from kybern.testing.clock import START
from kybern.testing.gate import Gate, pod


def config_map(namespace: str = "ns") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="c", namespace=namespace))


def terminate(gate: Gate) -> None:
    namespace = codec.clone(gate.objects.get("namespaces", "", "ns"))
    namespace.metadata.deletionTimestamp = scalars.render_time(START)
    namespace.status.phase = "Terminating"
    gate.objects.put(namespace)


def test_a_write_into_a_missing_namespace_is_not_found() -> None:
    with pytest.raises(ApiError) as raised:
        Gate().create(config_map("nope"))
    assert (raised.value.code, str(raised.value)) == (404, 'namespaces "nope" not found')
    assert raised.value.status.details is not None
    assert (raised.value.status.details.kind, raised.value.status.details.name) == ("namespaces", "nope")


def test_nothing_new_is_made_in_a_namespace_that_is_going() -> None:
    gate = Gate()
    terminate(gate)
    with pytest.raises(ApiError) as raised:
        gate.create(config_map())
    error = raised.value
    assert str(error) == (
        'configmaps "c" is forbidden: unable to create new content in namespace ns because it is being terminated'
    )
    assert error.status.details is not None
    cause = error.status.details.causes[0]
    assert (cause.reason, cause.message, cause.field) == (
        "NamespaceTerminating",
        "namespace ns is being terminated",
        "metadata.namespace",
    )


def test_what_is_there_may_still_change_and_go() -> None:
    gate = Gate()
    terminate(gate)
    gate.update(config_map(), config_map())
    gate.delete(config_map())


def test_cluster_scoped_objects_have_no_namespace() -> None:
    gate = Gate()
    gate.create(Namespace(metadata=ObjectMeta(name="new")))


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease"])
def test_system_namespaces_never_go(name: str) -> None:
    gate = Gate()
    refused = gate.refusal(gate.delete, Namespace(metadata=ObjectMeta(name=name)))
    assert refused == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


def test_other_namespaces_go_also_when_named_like_objects_that_stay() -> None:
    gate = Gate()
    gate.delete(Namespace(metadata=ObjectMeta(name="ns")))
    gate.delete(ServiceAccount(metadata=ObjectMeta(name="default", namespace="ns")))


def test_a_generated_name_is_told_by_its_beginning() -> None:
    gate = Gate()
    terminate(gate)
    made = pod()
    made.metadata.name, made.metadata.generateName = "", "web-"
    assert gate.refusal(gate.create, made).startswith('pods "web-" is forbidden: unable to create')
