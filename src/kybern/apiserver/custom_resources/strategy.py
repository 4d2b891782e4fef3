"""What is special about writing custom objects: no Structs, subresources by choice, validation by schema.

One a version, asked by registry/resource_store; objects reach it in the version of the request, pruned and defaulted.
"""

from __future__ import annotations

from typing import Any, Protocol

from kybern.api import codec
from kybern.api.autoscaling_v1 import Scale
from kybern.api.custom import CustomObject
from kybern.apiserver.custom_resources import lists, rules, scale
from kybern.apiserver.custom_resources.columns import document_of
from kybern.apiserver.custom_resources.jsonpath import selected_text
from kybern.apiserver.custom_resources.validate import NOTHING
from kybern.apiserver.custom_resources.version import Version
from kybern.apiserver.registry.strategy import Context, Strategy, new_scale
from kybern.apiserver.request import User
from kybern.machinery.status import ApiError, FieldError, invalid
from kybern.machinery.validation import metadata


class Family(Protocol):
    """What the rules need to know of all versions of the kind together."""

    @property
    def is_terminating(self) -> bool:
        """The definition is being deleted."""
        ...


class CustomStrategy(Strategy):
    """The rules of one version of a custom resource."""

    def __init__(self, context: Context, version: Version, selectable: dict[str, Any], family: Family) -> None:
        """`selectable`: the fields of all versions that field selectors may name, as paths."""
        super().__init__(context, version.resource)
        self._version = version
        self._paths = selectable
        self._family = family
        self.create_on_update = False
        self.returns_deleted = False
        self.unconditional_update = False
        self.default_propagation = None

    def prepare_create(self, obj: CustomObject, user: User) -> None:
        if self._family.is_terminating:
            why = "create not allowed while custom resource definition is terminating"
            raise ApiError.forbidden(self.resource.group, self.resource.plural, obj.metadata.name, why)
        if self._version.has_status:
            obj.content.pop("status", None)
        obj.metadata.generation = 1

    def prepare_update(self, obj: CustomObject, old: CustomObject) -> None:
        if self._version.has_status:
            obj.content.pop("status", None)
            if "status" in old.content:
                obj.content["status"] = old.content["status"]
        obj.metadata.generation = old.metadata.generation
        if obj.content != old.content:  # status is the same by now, where it does not count
            obj.metadata.generation = (old.metadata.generation or 0) + 1

    def prepare_status_update(self, obj: CustomObject, old: CustomObject) -> None:
        """Nothing but status; metadata stays too, unlike that of built-in kinds."""
        status = obj.content.get("status", NOTHING)
        obj.content = {name: value for name, value in old.content.items() if name != "status"}
        if status is not NOTHING:
            obj.content["status"] = status
        managed = obj.metadata.managedFields
        obj.metadata = codec.clone(old.metadata)
        obj.metadata.managedFields = managed
        obj.metadata.resourceVersion = ""

    def apply_defaults(self, obj: CustomObject) -> None:
        """The codec has done it."""

    def validate_create(self, obj: CustomObject) -> list[FieldError]:
        errors = self._check_kind(obj)
        metadata.check(obj.metadata, self.resource, errors)
        self._check(obj, None, errors)
        return errors

    def validate_update(self, obj: CustomObject, old: CustomObject) -> list[FieldError]:
        errors = self._check_kind(obj)
        metadata.check_update(obj.metadata, old.metadata, self.resource, errors)
        self._check(obj, old, errors)
        return list(dict.fromkeys(errors))

    def validate_status_update(self, obj: CustomObject, old: CustomObject) -> list[FieldError]:
        return self.validate_update(obj, old)

    def warnings_on_create(self, obj: CustomObject) -> list[str]:
        return []

    def scale_of(self, obj: CustomObject) -> Scale:
        paths = self._version.scale
        assert paths is not None
        wanted = scale.integer_at(obj.content, paths.specReplicasPath)
        present = scale.integer_at(obj.content, paths.statusReplicasPath)
        selector = scale.text_at(obj.content, paths.labelSelectorPath) if paths.labelSelectorPath else ""
        return new_scale(obj.metadata, wanted, present, selector)

    @property
    def replicas_path(self) -> tuple[str, ...]:
        assert self._version.scale is not None
        return tuple(scale.fields_of(self._version.scale.specReplicasPath))

    def set_replicas(self, obj: CustomObject, replicas: int) -> None:
        assert self._version.scale is not None
        scale.put(obj.content, self._version.scale.specReplicasPath, replicas)

    def selectable_fields(self, obj: CustomObject) -> dict[str, str]:
        fields = super().selectable_fields(obj)
        for name, path in self._paths.items():
            found = path.find(obj.content)
            fields[name] = selected_text(found[0]) if found else ""
        return fields

    @property
    def selectable(self) -> frozenset[str]:
        own = ("metadata.name", "metadata.namespace") if self.resource.namespaced else ("metadata.name",)
        return frozenset((*own, *self._version.selectable))

    def _check_kind(self, obj: CustomObject) -> list[FieldError]:
        errors: list[FieldError] = []
        if obj.kind != self.resource.kind:
            errors.append(invalid("kind", obj.kind, f"must be {self.resource.kind}"))
        if obj.apiVersion != self.resource.api_version:
            errors.append(invalid("apiVersion", obj.apiVersion, f"must be {self.resource.api_version}"))
        return errors

    def _check(self, obj: CustomObject, old: CustomObject | None, errors: list[FieldError]) -> None:
        version = self._version
        document = document_of(obj)
        before = document_of(old) if old is not None else NOTHING
        version.validator.check(document, None, errors, before)
        if version.scale is not None:
            scale.check(obj.content, version.scale, errors)
        if version.has_unique_lists and (old is None or obj.content != old.content) and self._may_judge_lists(old):
            lists.check(obj.content, version.tree, None, errors)
        if version.rules is not None:
            rules.check(document, version.rules, errors, before)

    def _may_judge_lists(self, old: CustomObject | None) -> bool:
        """An object whose lists were wrong before may stay as wrong as it likes, as upstream has it."""
        faults: list[FieldError] = []
        if old is not None:
            lists.check(old.content, self._version.tree, None, faults)
        return not faults
