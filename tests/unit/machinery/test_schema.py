from __future__ import annotations

import pytest

from kybern.machinery import schema
from kybern.machinery.schema import Field, Shape
from kybern.machinery.scheme import RESOURCES


def test_fields_tell_how_they_are_patched() -> None:
    spec = schema.fields("io.k8s.api.core.v1.PodSpec")
    assert spec is not None
    container = "io.k8s.api.core.v1.Container"
    assert spec["containers"] == Field(Shape.LIST, container, merge=True, merge_key="name")
    assert spec["tolerations"] == Field(Shape.LIST, "io.k8s.api.core.v1.Toleration")
    assert spec["nodeSelector"] == Field(Shape.MAP)
    assert spec["nodeName"] == Field(Shape.SCALAR)
    assert spec["affinity"] == Field(Shape.STRUCT, "io.k8s.api.core.v1.Affinity")
    meta = schema.fields("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    assert meta is not None
    assert meta["finalizers"] == Field(Shape.LIST, merge=True)
    assert meta["creationTimestamp"] == Field(Shape.SCALAR)
    budget = schema.fields("io.k8s.api.policy.v1.PodDisruptionBudgetSpec")
    assert budget is not None
    assert (budget["selector"].shape, budget["selector"].replace) == (Shape.STRUCT, True)
    assert budget["minAvailable"] == Field(Shape.SCALAR)
    ports = schema.fields(container)
    assert ports is not None
    assert ports["ports"].merge_key == "containerPort"


def test_free_form_and_scalar_definitions_have_no_fields() -> None:
    revision = schema.fields("io.k8s.api.apps.v1.ControllerRevision")
    assert revision is not None
    assert revision["data"] == schema.ANY
    assert schema.fields("io.k8s.apimachinery.pkg.runtime.RawExtension") is None
    assert schema.fields("io.k8s.apimachinery.pkg.api.resource.Quantity") is None


def test_every_resource_with_a_definition_can_be_walked() -> None:
    seen: set[str] = set()
    left = [resource.definition for resource in RESOURCES if resource.definition]
    assert left
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for field in (schema.fields(name) or {}).values():
            assert not field.merge or field.shape is Shape.LIST
            assert not field.merge_key or field.definition
            if field.definition:
                left.append(field.definition)


def test_an_unknown_definition_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        schema.fields("io.k8s.api.core.v1.Nope")
