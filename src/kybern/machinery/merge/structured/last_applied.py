"""From `kubectl apply` to `kubectl apply --server-side`, and back.

The client-side apply keeps what it applied last in an annotation, and owns its fields as an updater. The first
server-side apply by "kubectl" may take fields without force, where they are still what the annotation says; and as long
as there is an annotation it tells what was applied last, so that client-side apply still works.
Source: "Migration from client-side apply" in the documentation of server-side apply.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.machinery.merge.structured import combine, compare, fields, rules, typed
from kybern.machinery.merge.structured.errors import Conflict, Conflicts, TypedError
from kybern.machinery.merge.structured.managers import Managers
from kybern.machinery.merge.structured.rules import Applied, Versions, Writing

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
MAX_ANNOTATIONS = 256 * 1024  # bytes of all of an object. kube-apiserver: the same


def apply(
    versions: Versions,
    live: dict[str, Any],
    applied: dict[str, Any],
    owners: Managers,
    writing: Writing,
    *,
    force: bool,
) -> Applied:
    """`rules.apply`, with an eye on the annotation where kubectl applies. Raises what it raises."""
    try:
        done = rules.apply(versions, live, applied, owners, writing, force=force)
    except Conflicts as error:
        if writing.name != KUBECTL or not _all_applied_before(versions, live, error.conflicts, writing):
            raise
        done = rules.apply(versions, live, applied, owners, writing, force=True)
    if writing.name == KUBECTL and _annotation(live) is not None:
        return _told(done, applied)
    return done


def _annotation(obj: dict[str, Any]) -> str | None:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    text = annotations.get(ANNOTATION)
    return text if isinstance(text, str) and text else None


def _all_applied_before(
    versions: Versions, live: dict[str, Any], conflicts: tuple[Conflict, ...], writing: Writing
) -> bool:
    text = _annotation(live)
    if text is None:
        return False
    try:
        config = codec.decode(dict[str, Any], text.encode())
        version = str(config.get("apiVersion"))
        node = versions.node(version)
        if node is None:
            return False
        typed.check(node, config)
        if version != writing.api_version:
            config = versions.convert(config, version, writing.api_version)
            node = versions.node(writing.api_version)
            assert node is not None
        said = typed.fields_of(node, config)
        otherwise = compare.compare(node, live, combine.merge(node, live, config)).changed
        before = fields.difference(said, otherwise)
    except (msgspec.MsgspecError, TypedError, ValueError, RecursionError):
        return False
    return all(fields.has(before, conflict.path) for conflict in conflicts)


def _told(done: Applied, applied: dict[str, Any]) -> Applied:
    """With the annotation brought up to date; dropped where it would not fit."""
    text = codec.encode(_sorted(applied)).decode() + "\n"
    metadata = dict(done.value.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    if ANNOTATION not in annotations:
        return done
    annotations[ANNOTATION] = text
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items() if isinstance(v, str)) > MAX_ANNOTATIONS:
        annotations[ANNOTATION] = ""
    metadata["annotations"] = annotations
    return Applied({**done.value, "metadata": metadata}, done.managers, done.changed)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    return value
