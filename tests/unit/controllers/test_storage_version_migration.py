"""Every object of a resource is written once more, and the conditions tell how that went."""

import pytest

from kybern.api.apiextensions_v1 import (
    CustomResourceDefinition,
    CustomResourceDefinitionSpec,
    CustomResourceDefinitionStatus,
    CustomResourceDefinitionVersion,
)
from kybern.api.core_v1 import ConfigMap
from kybern.api.meta_v1 import GroupResource, ObjectMeta
from kybern.api.resource import Resource
from kybern.api.storagemigration_v1beta1 import StorageVersionMigration, StorageVersionMigrationSpec
from kybern.machinery.status import ApiError
from kybern.testing import control_plane

NAMES = ["storage-version-migrator-controller"]
ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
FOOS = Resource(group="x.y", version="v2", plural="foos", singular="foo", kind="Foo", namespaced=True, verbs=ALL)


def migration(resource, group=""):
    spec = StorageVersionMigrationSpec(resource=GroupResource(group=group, resource=resource))
    return StorageVersionMigration(metadata=ObjectMeta(name="m"), spec=spec)


def foo(name):
    return {"apiVersion": "x.y/v2", "kind": "Foo", "metadata": {"name": name, "namespace": "default"}}


def definition(storage="v2"):
    versions = [CustomResourceDefinitionVersion(name=v, served=True, storage=v == storage) for v in ("v1", "v2")]
    return CustomResourceDefinition(
        metadata=ObjectMeta(name="foos.x.y"),
        spec=CustomResourceDefinitionSpec(group="x.y", versions=versions),
        status=CustomResourceDefinitionStatus(storedVersions=["v1", "v2"]),
    )


def migrate(wanted, prepare=lambda api: None, seconds=5.0, resources=(), then=None):
    """The migration a while after it was created, and the names of what was patched."""

    async def scenario(plane):
        plane.api.put(wanted)
        await plane.clock.sleep(seconds)
        if then is not None:
            then(plane.api)
            await plane.clock.sleep(seconds)
        patched = [call.name for call in plane.api.calls if call.verb == "patch"]
        (found,) = plane.api.list(StorageVersionMigration)
        definitions = plane.api.list(CustomResourceDefinition)
        return found, patched, definitions[0].status.storedVersions if definitions else None

    return control_plane.run(NAMES, scenario, node=False, prepare=prepare, resources=resources)


def conditions(found):
    return [(c.type, c.status, c.reason) for c in found.status.conditions]


SUCCEEDED = [("Running", "False", "MigrationCompleted"), ("Succeeded", "True", "StorageVersionMigrationSucceeded")]
FAILED = [("Running", "False", "MigrationCompleted"), ("Failed", "True", "StorageVersionMigrationFailed")]


def fail(api, name, error, times=1):
    """Writes of one config map fail so many times."""
    left = [error] * times
    api.react("patch configmaps", lambda call: left.pop() if call.name == name and left else None)


def three_config_maps(api):
    for name in "abc":
        api.put(ConfigMap(metadata=ObjectMeta(name=name, namespace="default")))


def test_every_object_is_touched_once():
    found, patched, _ = migrate(migration("configmaps"), three_config_maps)
    assert sorted(patched) == ["a", "b", "c"]
    assert conditions(found) == SUCCEEDED
    assert int(found.status.resourceVersion) > 0


def test_more_objects_than_a_page_holds_are_all_touched():
    def many(api):
        for i in range(1203):
            api.put(ConfigMap(metadata=ObjectMeta(name=f"c{i}", namespace="default")))

    found, patched, _ = migrate(migration("configmaps"), many, seconds=60.0)
    assert len(set(patched)) == len(patched) == 1203
    assert conditions(found) == SUCCEEDED


def test_a_migration_that_is_over_is_not_begun_again():
    def again(api):
        three_config_maps(api)
        api.edit(StorageVersionMigration, "", "m", lambda m: m.metadata.labels.update(a="b"))

    found, patched, _ = migrate(migration("configmaps"), then=again)
    assert patched == []
    assert conditions(found) == SUCCEEDED


def test_objects_that_somebody_else_writes_or_deletes_need_no_migration():
    def prepare(api):
        three_config_maps(api)
        fail(api, "a", ApiError.conflict("", "configmaps", "a", "changed"))
        fail(api, "b", ApiError.not_found("", "configmaps", "b"))

    found, _, _ = migrate(migration("configmaps"), prepare)
    assert conditions(found) == SUCCEEDED


def test_what_admission_refuses_fails_the_migration():
    def prepare(api):
        three_config_maps(api)
        fail(api, "b", ApiError.make(403, "Forbidden", "no way"))

    found, _, _ = migrate(migration("configmaps"), prepare)
    assert conditions(found) == FAILED
    assert found.status.conditions[1].message == "migration encountered unhandled error: no way"


def test_a_server_in_trouble_delays_the_migration():
    def prepare(api):
        three_config_maps(api)
        fail(api, "b", ApiError.make(500, "InternalError", "out of order"), times=3)

    found, _, _ = migrate(migration("configmaps"), prepare)
    assert conditions(found) == SUCCEEDED


def test_a_resource_that_cannot_be_written_fails():
    found, patched, _ = migrate(migration("componentstatuses"))
    assert conditions(found) == FAILED
    assert found.status.conditions[1].message == (
        'resource "/v1, Resource=componentstatuses" does not support discovery operations: [update patch list]'
    )
    assert patched == []


def test_a_resource_that_nobody_serves_is_waited_for():
    found, patched, _ = migrate(migration("foos", "x.y"), seconds=100.0)
    assert conditions(found) == [("Running", "True", "MigrationRunning")]
    assert patched == []


@pytest.mark.parametrize("storage", ["v1", "v2"])
def test_a_definition_lists_only_the_present_version_afterwards(storage):
    def prepare(api):
        api.put(definition(storage))
        api.put(foo("f"))

    found, patched, stored = migrate(migration("foos", "x.y"), prepare, resources=[FOOS])
    assert conditions(found) == SUCCEEDED
    assert patched == ["f", "foos.x.y"]
    assert stored == [storage]


def test_a_definition_that_changes_meanwhile_is_migrated_anew():
    def prepare(api):
        api.put(definition("v1"))
        api.put(foo("f"))
        changed = []

        def redefine(call):
            if not changed:
                changed.append(call)
                api.put(definition("v2"))

        api.react("patch foos", redefine)

    found, patched, stored = migrate(migration("foos", "x.y"), prepare, resources=[FOOS])
    assert patched.count("f") == 2
    assert stored == ["v2"]
    assert conditions(found) == SUCCEEDED
