"""The types of a custom resource's fields, as its definition tells them: how applied configurations merge.

Made by serving, one a definition; asked by registry/ownership. Compiled when an object of a version is first written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kybern.apiserver.custom_resources.version import Version
from kybern.machinery.merge.structured import schema
from kybern.machinery.merge.structured.schema import Node


class CustomFields:
    """The SchemaSource of one definition whose versions differ by nothing but their apiVersion."""

    def __init__(self, versions: Mapping[str, Version]) -> None:
        self._versions = {version.resource.api_version: version for version in versions.values()}
        self._nodes: dict[str, Node] = {}

    def node(self, api_version: str) -> Node | None:
        found = self._nodes.get(api_version)
        if found is None:
            version = self._versions.get(api_version)
            if version is None:
                return None
            found = self._nodes[api_version] = schema.of_custom(version.schema)
        return found

    def empty(self, api_version: str) -> dict[str, Any]:
        return {"apiVersion": api_version, "kind": self._versions[api_version].resource.kind, "metadata": {}}

    def convert(self, value: dict[str, Any], source: str, target: str) -> dict[str, Any]:
        return {**value, "apiVersion": target}
