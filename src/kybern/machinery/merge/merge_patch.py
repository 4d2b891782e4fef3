"""JSON merge patch, RFC 7386: maps are merged, null removes, everything else replaces."""

from __future__ import annotations

from typing import Any

from kybern.machinery.merge.errors import MalformedPatch


def apply(document: Any, patch: Any) -> Any:
    """The document with the patch applied; a patch that is no map replaces it. Raises MalformedPatch (too deep)."""
    try:
        return _merge(document, patch)
    except RecursionError as error:
        raise MalformedPatch("the patch is nested too deeply") from error


def _merge(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
