"""One version of one CustomResourceDefinition, compiled: all that is to be known to read and write its objects.

Made by serving of a definition that was found right; used by codec, strategy and Served. Immutable.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionVersion
from kybern.api.resource import Resource, Subresource
from kybern.apiserver.custom_resources import columns, jsonpath, lists, structural
from kybern.apiserver.custom_resources.rules import Place, compile_rules
from kybern.apiserver.custom_resources.structural import Node
from kybern.apiserver.custom_resources.validate import Validator
from kybern.apiserver.table.column import Printer

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_WHOLE = ("get", "patch", "update")


class Version:
    """What is compiled when it is first needed: a definition may have many versions that nobody uses."""

    def __init__(self, definition: CustomResourceDefinition, version: CustomResourceDefinitionVersion) -> None:
        self.name = version.name
        self.resource = resource_of(definition, version)
        self.stored_as = stored_version(definition)
        spec = version.subresources
        self.has_status = spec is not None and spec.status is not None
        self.scale = spec.scale if spec is not None else None
        self._version = version
        self.selectable = {
            f.jsonPath.removeprefix("."): jsonpath.compile_path(f.jsonPath) for f in version.selectableFields
        }
        self.deprecation = _deprecation(definition, version)

    @functools.cached_property
    def schema(self) -> Mapping[str, Any]:
        found = self._version.schema
        if found is None or found.openAPIV3Schema is None:
            return structural.ANYTHING
        schema: Mapping[str, Any] = codec.to_json(found.openAPIV3Schema)
        return schema

    @functools.cached_property
    def tree(self) -> Node:
        return structural.compile_schema(self.schema)

    @functools.cached_property
    def validator(self) -> Validator:
        return Validator(self.schema)

    @functools.cached_property
    def rules(self) -> Place | None:
        return compile_rules(self.schema)

    @functools.cached_property
    def has_unique_lists(self) -> bool:
        return lists.has_unique(self.tree)

    @functools.cached_property
    def printer(self) -> Printer:
        return columns.printer_of(codec.to_json(self._version.additionalPrinterColumns))


def stored_version(definition: CustomResourceDefinition) -> str:
    """The apiVersion in which objects are stored."""
    name = next(v.name for v in definition.spec.versions if v.storage)
    return f"{definition.spec.group}/{name}"


def resource_of(definition: CustomResourceDefinition, version: CustomResourceDefinitionVersion) -> Resource:
    """The row that discovery tells, under the names that were accepted."""
    spec = definition.spec
    names = definition.status.acceptedNames or spec.names
    subresources: list[Subresource] = []
    if version.subresources is not None and version.subresources.status is not None:
        subresources.append(Subresource("status", names.kind, spec.group, version.name, _WHOLE))
    if version.subresources is not None and version.subresources.scale is not None:
        subresources.append(Subresource("scale", "Scale", "autoscaling", "v1", _WHOLE))
    return Resource(
        group=spec.group,
        version=version.name,
        plural=names.plural,
        singular=names.singular or "",
        kind=names.kind,
        namespaced=spec.scope == "Namespaced",
        verbs=("delete",) if _is_terminating(definition) else VERBS,
        short_names=tuple(names.shortNames),
        categories=tuple(names.categories),
        storage_version_hash=storage_version_hash(stored_version(definition), names.kind),
        definition=definition_name(spec.group, version.name, names.kind),
        subresources=tuple(subresources),
        list_kind=names.listKind or "",
    )


def definition_name(group: str, version: str, kind: str) -> str:
    """`com.example.stable.v1.CronTab`: the name of its schema in OpenAPI documents."""
    return f"{'.'.join(reversed(group.split('.')))}.{version}.{kind}"


def storage_version_hash(api_version: str, kind: str) -> str:
    """What discovery tells clients about how objects are stored."""
    digest = hashlib.sha256(f"{api_version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _is_terminating(definition: CustomResourceDefinition) -> bool:
    return any(c.type == "Terminating" and c.status == "True" for c in definition.status.conditions)


def _deprecation(definition: CustomResourceDefinition, version: CustomResourceDefinitionVersion) -> str:
    if not version.deprecated:
        return ""
    names = definition.spec.names
    return version.deprecationWarning or f"{definition.spec.group}/{version.name} {names.kind} is deprecated"
