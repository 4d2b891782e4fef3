"""Policies without an API server: on manifests for `kybern policy test`, and within one process for tests.

`Inline` stands in for pool.WorkerPool where no process is wanted: it blocks its caller while a policy runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kybern.api import codec
from kybern.machinery import defaults, manifest, scheme
from kybern.policies import protocol
from kybern.policies.errors import PolicyError
from kybern.policies.evaluate import evaluate
from kybern.policies.load import Loaded, load
from kybern.policies.protocol import Ask, Entry, Outcome, Target, Who


class Inline:
    """A folder's policies, called on the spot. Raises PolicyError when made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._policies: Sequence[Loaded] = load(folder)
        self.entries: tuple[Entry, ...] = tuple(protocol.catalogue_of(list(self._policies)).policies)

    def acquire(self) -> Inline:
        return self

    def release(self, generation: object) -> None:
        pass

    async def evaluate(self, ask: Ask) -> Outcome:
        return self.run(ask)

    def run(self, ask: Ask) -> Outcome:
        return evaluate(self._policies[ask.policy], ask, self._folder)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file."""

    file: str
    value: dict[str, Any]

    @property
    def shown(self) -> str:
        metadata = self.value.get("metadata") or {}
        name = metadata.get("name") or metadata.get("generateName") or "?"
        return f"{self.file}: {self.value.get('kind')} {name}"


@dataclass(slots=True)
class Verdict:
    """What became of one object."""

    manifest: Manifest
    asked: int = 0  # policies that wanted it
    changed_by: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)  # `file.py:12 name: text`
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    object: dict[str, Any] | None = None  # as it would be admitted

    @property
    def passed(self) -> bool:
        return not self.refusals and not self.failures


def read_manifests(files: Iterable[tuple[str, bytes]]) -> list[Manifest]:
    """All objects of some files, lists opened. Raises ValueError that names the file."""
    found = []
    for name, data in files:
        try:
            documents = manifest.parse_yaml_documents(data)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        for document in documents:
            if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
                raise ValueError(f"{name}: an object needs apiVersion and kind")
            kind = str(document["kind"])
            items = document.get("items") if kind.endswith("List") else None
            if not isinstance(items, list):
                items = [document]
            elif kind != "List":  # as a server tells it: items do not say what the list's kind says
                known = {"apiVersion": document["apiVersion"], "kind": kind.removesuffix("List")}
                items = [known | item if isinstance(item, dict) else item for item in items]
            found += [Manifest(name, item) for item in items]
    return found


def judge(policies: Inline, manifests: Sequence[Manifest], operation: str, user: Who, namespace: str) -> list[Verdict]:
    """Each object as if it were written: changed first, then judged.

    Namespaces among the manifests lend their labels.
    """
    labels = {
        m.value["metadata"]["name"]: (m.value["metadata"].get("labels") or {})
        for m in manifests
        if m.value.get("kind") == "Namespace" and (m.value.get("metadata") or {}).get("name")
    }
    return [_judge(policies, one, operation, user, namespace, labels) for one in manifests]


def _judge(
    policies: Inline, one: Manifest, operation: str, user: Who, namespace: str, labels: dict[str, dict[str, str]]
) -> Verdict:
    verdict = Verdict(one)
    try:
        value, resource, is_namespaced = _completed(one.value)
    except ValueError as error:
        verdict.failures.append(f"not a valid object: {error}")
        return verdict
    metadata = value.get("metadata") or {}
    space = (metadata.get("namespace") or namespace) if is_namespaced else ""
    for index, entry in _in_order(policies.entries):
        target = _wanted(entry, resource, operation)
        if target is None or (entry.mayChange and operation == "DELETE"):
            continue
        verdict.asked += 1
        data = msgspec.Raw(codec.encode(value))
        ask = Ask(
            policy=index,
            operation=operation,
            resource=resource,
            subresource="",
            namespace=space,
            name=metadata.get("name") or "",
            user=user,
            object=data,
            old=data if operation == "DELETE" else protocol.NOTHING,
            dryRun=True,
            namespaceLabels=labels.get(space, {}),
        )
        outcome = policies.run(ask)
        verdict.warnings += outcome.warnings
        verdict.refusals += [f"{entry.place} {entry.name}: {text}" for text in outcome.refusals]
        if outcome.failure:
            told = verdict.warnings if entry.failsOpen else verdict.failures
            told.append(f"policy {entry.name} failed: {outcome.failure}")
        elif protocol.is_something(outcome.object) and bytes(outcome.object) != bytes(data):
            verdict.changed_by.append(entry.name)
            value = _completed(msgspec.json.decode(outcome.object))[0]
    verdict.object = value
    return verdict


def _in_order(entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
    return sorted(enumerate(entries), key=lambda pair: not pair[1].mayChange)


def _wanted(entry: Entry, resource: str, operation: str) -> Target | None:
    if operation not in entry.operations:
        return None
    return next((t for t in entry.targets if t.resource in ("*", resource) and not t.subresource), None)


def _completed(value: dict[str, Any]) -> tuple[dict[str, Any], str, bool]:
    """The object with its defaults, its group_resource, and whether it is in a namespace. Raises ValueError."""
    api_version, kind = str(value.get("apiVersion")), str(value.get("kind"))
    row, struct = scheme.kind_of(api_version, kind), scheme.struct_of(api_version, kind)
    if row is None or struct is None:
        # A custom resource: named as they usually are.
        group = api_version.rpartition("/")[0]
        plural = f"{kind.lower()}s"
        return value, f"{plural}.{group}" if group else plural, True
    obj, unknown = codec.from_json(struct, value)
    if unknown:
        raise ValueError(f"unknown field {', '.join(unknown)}")
    defaults.apply(obj)
    return codec.to_json(obj), row.group_resource, row.namespaced


__all__ = ["Inline", "Manifest", "PolicyError", "Verdict", "judge", "read_manifests"]
