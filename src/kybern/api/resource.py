"""What a resource is: the row type of the generated table `resources.py`.

Read by machinery/scheme (look-up), apiserver/discovery (serving). Pure data.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subresource:
    """`pods/status` and the like; kind, group and version are those of its request body."""

    name: str
    kind: str
    group: str
    version: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in one group-version, as discovery tells it."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    storage_version_hash: str = ""
    definition: str = ""  # name in the OpenAPI schema, "" where it has none
    module: str = ""  # of kybern.api, where the Struct is
    subresources: tuple[Subresource, ...] = ()
    list_kind: str = ""  # of a custom resource: "PodList" need not be said

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, or `pods` for the core group: how errors name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural
