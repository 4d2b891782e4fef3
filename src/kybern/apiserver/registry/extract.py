"""What selectors need of a stored value (labels, selectable fields), without decoding the rest of it.

Called by watch_cache/cache for every object that this process did not write itself: all of them when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from kybern.api import codec
from kybern.api.part import part_of
from kybern.apiserver.registry.object_codec import ObjectCodec
from kybern.apiserver.registry.strategy import Strategy

log = structlog.get_logger(__name__)

_ALWAYS = ("metadata.name", "metadata.namespace", "metadata.labels")


class Extract:
    """An entry.Indexer for the objects of one built-in kind."""

    def __init__(self, kind: ObjectCodec, strategy: Strategy) -> None:
        self._codec = kind
        self._strategy = strategy
        self._part: type[msgspec.Struct] | None = None  # made when first needed: most kinds have no objects

    def __call__(self, value: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """(labels, selectable fields)."""
        part = self._part
        if part is None:
            struct = self._codec.struct
            assert struct is not None, "custom resources have their own way"
            part = self._part = part_of(struct, (*_ALWAYS, *self._strategy.selected_from))
        try:
            obj: Any = codec.decode(part, value)
        except msgspec.DecodeError:
            try:
                obj = self._codec.decode_foreign(value)  # nulls where this server leaves out
            except ValueError as error:
                # Somebody else wrote it. It is served as it stands; selectors see nothing in it.
                log.error("an object in the store is not of its type", kind=self._codec.kind, error=str(error))
                return {}, {}
        return obj.metadata.labels, self._strategy.selectable_fields(obj)
