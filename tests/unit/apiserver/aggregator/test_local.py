"""APIServices for what is served here."""

from __future__ import annotations

from typing import Any

from kybern.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionVersion
from kybern.api.apiregistration_v1 import APIService, ServiceReference
from kybern.api.codec import clone
from kybern.apiserver.aggregator import local, remote
from kybern.machinery import scheme


def named(*objects: APIService) -> dict[str, APIService]:
    return {obj.metadata.name: obj for obj in objects}


def definition(group: str, *versions: str, unserved: tuple[str, ...] = ()) -> Any:
    made = CustomResourceDefinition()
    made.metadata.name = f"things.{group}"
    made.spec.group = group
    made.spec.versions = [CustomResourceDefinitionVersion(name=v, served=True) for v in versions]
    made.spec.versions += [CustomResourceDefinitionVersion(name=v, served=False) for v in unserved]
    return made


def test_built_in_groups_have_the_priorities_of_upstream() -> None:
    plan = local.plan_built_in([("", "v1"), ("apps", "v1"), ("autoscaling", "v2"), (remote.GROUP, "v1")], {})
    told = {o.metadata.name: (o.spec.group, o.spec.groupPriorityMinimum, o.spec.versionPriority) for o in plan.create}
    assert told == {
        "v1.": (None, 18000, 1),
        "v1.apps": ("apps", 17800, 15),
        "v2.autoscaling": ("autoscaling", 17500, 30),
    }
    assert all(o.metadata.labels == {local.AUTOMANAGED: "onstart"} for o in plan.create)


def test_every_group_that_can_be_served_has_a_priority_of_its_own() -> None:
    for group, _ in scheme.GROUPS:
        assert group == remote.GROUP or group in local._GROUPS


def test_versions_that_are_served_no_more_are_forgotten_at_start() -> None:
    old = local.plan_built_in([("apps", "v1beta1"), ("apps", "v1")], {}).create
    plan = local.plan_built_in([("apps", "v1")], named(*old))
    assert (plan.create, plan.update, plan.delete) == ((), (), ("v1beta1.apps",))


def test_what_a_person_took_over_is_left_alone() -> None:
    (theirs,) = local.plan_built_in([("apps", "v1")], {}).create
    theirs.metadata.labels = {}
    theirs.spec.versionPriority = 7
    assert local.plan_built_in([("apps", "v1")], named(theirs)) == local.Plan()
    assert local.plan_built_in([], named(theirs)) == local.Plan()


def test_custom_groups_follow_their_definitions() -> None:
    plan = local.plan_custom([definition("example.com", "v1", "v2", unserved=("v0",))], {})
    made = named(*plan.create)
    assert sorted(made) == ["v1.example.com", "v2.example.com"]
    spec = made["v1.example.com"].spec
    assert (spec.groupPriorityMinimum, spec.versionPriority) == (1000, 100)
    assert made["v1.example.com"].metadata.labels == {local.AUTOMANAGED: "true"}
    changed = clone(made["v1.example.com"])
    changed.spec.versionPriority = 5
    plan = local.plan_custom([definition("example.com", "v1")], named(changed, made["v2.example.com"]))
    assert [o.spec.versionPriority for o in plan.update] == [100]
    assert plan.delete == ("v2.example.com",)


def test_an_api_service_with_a_service_is_never_deleted_for_its_label() -> None:
    (obj,) = local.plan_custom([definition("example.com", "v1")], {}).create
    obj.spec.service = ServiceReference(name="s", namespace="n")
    assert local.plan_custom([], named(obj)).delete == ()


def test_groups_are_ordered_by_priority_then_name_and_versions_by_priority_then_age() -> None:
    def obj(group: str, version: str, minimum: int, priority: int) -> APIService:
        made = APIService()
        made.spec.group, made.spec.version = group, version
        made.spec.groupPriorityMinimum, made.spec.versionPriority = minimum, priority
        return made

    objects = [
        obj("b.example.com", "v1", 1000, 10),
        obj("a.example.com", "v1beta1", 1000, 10),
        obj("a.example.com", "v1", 500, 10),
        obj("a.example.com", "v2alpha1", 500, 20),
        obj("apps", "v1", 17800, 15),
    ]
    assert remote.order(objects) == (
        (remote.GROUP, ("v1",)),
        ("apps", ("v1",)),
        ("a.example.com", ("v2alpha1", "v1", "v1beta1")),
        ("b.example.com", ("v1",)),
    )
