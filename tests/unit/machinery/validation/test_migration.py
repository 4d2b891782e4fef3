"""Messages as a v1.36 API server gives them."""

import pytest

from kybern.api.meta_v1 import Condition, GroupResource, ObjectMeta
from kybern.api.storagemigration_v1beta1 import (
    StorageVersionMigration,
    StorageVersionMigrationSpec,
    StorageVersionMigrationStatus,
)
from kybern.machinery import validation


def migration(resource="foos", group="y.z", conditions=(), version=None):
    return StorageVersionMigration(
        metadata=ObjectMeta(name="m", resourceVersion="1"),
        spec=StorageVersionMigrationSpec(resource=GroupResource(group=group, resource=resource)),
        status=StorageVersionMigrationStatus(conditions=list(conditions), resourceVersion=version),
    )


def condition(kind, status="True"):
    return Condition(type=kind, status=status, reason="R", message="m", lastTransitionTime="2026-11-23T18:25:36Z")


def texts(errors):
    return [str(error) for error in errors]


@pytest.mark.parametrize(
    ("resource", "group", "fault"),
    [
        ("configmaps", "", None),
        ("foos", "nobody.serves.it", None),
        ("", "apps", "spec.resource.resource: Required value: resource is required to be set"),
        ("pods/status", "", 'spec.resource.resource: Invalid value: "pods/status": a DNS-1035 label must consist of'),
        ("b" * 64, "", f'spec.resource.resource: Invalid value: "{"b" * 64}": must be no more than 63 characters'),
        ("foo", "A_b", 'spec.resource.group: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of'),
    ],
)
def test_a_migration_names_a_resource(resource, group, fault):
    found = texts(validation.validate_create(migration(resource, group)))
    assert len(found) == (fault is not None)
    assert not found or found[0].startswith(fault)


def test_what_is_migrated_cannot_be_changed():
    (fault,) = texts(validation.validate_update(migration("bars"), migration("foos")))
    assert fault == ('spec: Invalid value: {"Resource":{"group":"y.z","resource":"bars"}}: field is immutable')


@pytest.mark.parametrize("version", ["abc", "0", "-1", "012", "１"])
def test_the_resource_version_is_a_number(version):
    (fault,) = texts(validation.validate_status_update(migration(version=version), migration()))
    end = f"resource version is not well formed: {version}"
    assert fault == f'status.resourceVersion: Invalid value: "{version}": {end}'


def test_the_resource_version_is_told_once():
    assert not validation.validate_status_update(migration(version="12"), migration())
    for version in ("13", None):
        (fault,) = texts(validation.validate_status_update(migration(version=version), migration(version="12")))
        assert fault == f'status.resourceVersion: Invalid value: "{version or ""}": field is immutable'


@pytest.mark.parametrize(
    ("new", "old", "fault"),
    [
        (["Running"], [], None),
        (["Running", "Succeeded"], ["Running"], None),
        (["Running", "Failed"], [], None),
        (["Succeeded", "Failed"], [], "Both success and failed conditions cannot be true at the same time"),
        ([], ["Succeeded"], "Success condition cannot be set to false once it is true"),
        (["Running"], ["Failed"], "Failed condition cannot be set to false once it is true"),
    ],
)
def test_what_is_settled_stays_so(new, old, fault):
    found = texts(
        validation.validate_status_update(
            migration(conditions=map(condition, new)), migration(conditions=map(condition, old))
        )
    )
    assert len(found) == (fault is not None)
    assert not found or found[0].endswith(fault)
