"""Objects of custom resources: typed metadata, and everything else as JSON.

Made by `codec` and by the API server's codecs of custom resources; registry and admission read `obj.metadata` as of any
other object. What is in `content` is the schema's business (apiserver/custom_resources).
"""

from __future__ import annotations

from typing import Any

from kybern.api.meta_v1 import ObjectMeta


class CustomObject:
    """One object of a kind that nobody knew when this was written."""

    __slots__ = ("apiVersion", "content", "kind", "metadata")

    def __init__(self, apiVersion: str, kind: str, metadata: ObjectMeta, content: dict[str, Any]) -> None:
        self.apiVersion = apiVersion
        self.kind = kind
        self.metadata = metadata
        self.content = content  # without kind, apiVersion and metadata

    def document(self) -> dict[str, Any]:
        """The object as JSON but for its metadata; kind, apiVersion and metadata come first."""
        return {"kind": self.kind, "apiVersion": self.apiVersion, "metadata": self.metadata, **self.content}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CustomObject) and self.document() == other.document()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<{self.kind} {self.metadata.namespace}/{self.metadata.name}>"
