"""What the expressions of a policy would say of the kinds that it names: warnings in its status, never a refusal.

`Checks` is one task of the server, woken by the watch cache: it writes status.typeChecking and observedGeneration of
each ValidatingAdmissionPolicy once a generation. Source: "Validating Admission Policy: type checking".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

from kybern.api import codec
from kybern.api.admissionregistration_v1 import (
    ExpressionWarning,
    TypeChecking,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyStatus,
)
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.resource import Resource
from kybern.apiserver.admission.policies.definitions import VALIDATING
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.slices import Slices
from kybern.apiserver.watch_cache.cache import Event
from kybern.client.workqueue import WorkQueue
from kybern.machinery import schema
from kybern.machinery.cel import schema_types
from kybern.machinery.cel.program import Environment
from kybern.machinery.cel.schema_types import Declared
from kybern.machinery.cel.types import Type
from kybern.machinery.clock import Clock
from kybern.machinery.policies import programs
from kybern.machinery.status import ApiError
from kybern.storage.interface import StoreError

log = structlog.get_logger(__name__)

_DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_MOST_KINDS: Final = 10  # kube-apiserver: kinds that one policy is checked against
_PREFIX: Final = "compilation failed: "


def kinds_of(spec: Any, served: Iterable[Resource]) -> list[Resource]:
    """The resources that a policy names outright: no wildcards, no subresources. In the order of discovery's text."""
    wanted: set[tuple[str, str, str]] = set()
    for rule in spec.matchConstraints.resourceRules if spec.matchConstraints is not None else ():
        if "*" in rule.apiGroups or "*" in rule.apiVersions:
            continue
        plurals = [p for p in rule.resources if "*" not in p and "/" not in p]
        wanted.update((g, v, p) for g in rule.apiGroups for v in rule.apiVersions for p in plurals)
    found = [r for r in served if (r.group, r.version, r.plural) in wanted]
    return sorted(found, key=_text_of)[:_MOST_KINDS]


def _text_of(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}, Kind={resource.kind}"


def warnings_of(
    spec: Any, kinds: Iterable[tuple[Resource, Declared]], params: Declared | None = None
) -> list[ExpressionWarning]:
    """One for each expression of a validation that does not fit one of the kinds."""
    found: dict[str, list[str]] = {}
    for resource, declared in kinds:
        typed = _typed(declared, params)
        for fault in programs.of_policy(spec, typed).faults:
            if fault.path.startswith("spec.validations"):
                text = fault.message.removeprefix(_PREFIX)
                found.setdefault(fault.path, []).append(f"{_text_of(resource)}: {text}\n")
    return [ExpressionWarning(fieldRef=path, warning="\n".join(found[path])) for path in sorted(found, key=_place)]


def _place(path: str) -> tuple[int, str]:
    return int(path.partition("[")[2].partition("]")[0]), path


def _typed(declared: Declared, params: Declared | None) -> Environment:
    variables: dict[str, Type] = {"object": declared.type, "oldObject": declared.type}
    objects = dict(declared.objects)
    if params is not None:
        variables["params"] = params.type
        objects.update(params.objects)
    return Environment(variables, objects)


class Checks:
    """One a server; `run` in its TaskGroup."""

    def __init__(self, registry: Registry, clock: Clock, slices: Slices) -> None:
        self._slices = slices
        self._registry = registry
        self._objects = registry.objects
        self._queue = WorkQueue(clock)

    async def run(self) -> None:
        store = self._objects.stores.get(VALIDATING[0])
        if store is None:
            return  # the group is not served
        store.hub.listen(self._changed)
        for entry in store.cache.entries():
            self._queue.add(entry.name)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run(), name="type checking of policies: timer")
            tasks.create_task(self._work(), name="type checking of policies")

    def _changed(self, event: Event) -> None:
        if event.entry is not None:
            self._queue.add(event.entry.name)

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            try:
                await self._slices.run(self._look_at(name), "")
            except (ApiError, StoreError) as error:
                pause = self._queue.add_rate_limited(name)
                log.info("a policy must wait for its check", policy=name, error=str(error), retry_in=round(pause, 3))
            except Exception:  # supervised: a fault with one policy must not stop the others
                pause = self._queue.add_rate_limited(name)
                log.exception("a policy cannot be checked", policy=name, retry_in=round(pause, 3))
            else:
                self._queue.forget(name)
            finally:
                self._queue.done(name)

    async def _look_at(self, name: str) -> None:
        policy: ValidatingAdmissionPolicy | None = self._objects.get(VALIDATING[0], "", name)
        if policy is None or policy.metadata.deletionTimestamp is not None:
            return
        status = policy.status or ValidatingAdmissionPolicyStatus()
        if status.observedGeneration == policy.metadata.generation:
            return
        fresh = codec.clone(policy)
        fresh.status = fresh.status or ValidatingAdmissionPolicyStatus()
        fresh.status.observedGeneration = policy.metadata.generation
        fresh.status.typeChecking = TypeChecking(expressionWarnings=self._warnings(policy.spec))
        await self._objects.update(VALIDATING[0], fresh)

    def _warnings(self, spec: Any) -> list[ExpressionWarning]:
        kinds = [
            (resource, declared)
            for resource in kinds_of(spec, (s.resource for s in self._registry.served()))
            if (declared := self._declared(resource)) is not None
        ]
        return warnings_of(spec, kinds, self._params(spec.paramKind))

    def _params(self, kind: Any) -> Declared | None:
        if kind is None:
            return None
        for served in self._registry.served():
            if (served.resource.api_version, served.resource.kind) == (kind.apiVersion, kind.kind):
                return self._declared(served.resource)
        return None

    def _declared(self, resource: Resource) -> Declared | None:
        definitions = schema.definitions()
        if resource.definition in definitions:
            return schema_types.declare(
                {"$ref": f"#/$defs/{resource.definition}"}, resource.definition, definitions=definitions
            )
        definition: CustomResourceDefinition | None = self._objects.get(_DEFINITIONS, "", resource.group_resource)
        if definition is None:
            return None
        for version in definition.spec.versions:
            if version.name == resource.version and version.schema is not None:
                found: Mapping[str, Any] | None = codec.to_json(version.schema).get("openAPIV3Schema")
                return _custom(found, resource) if found is not None else None
        return None


def _custom(found: Mapping[str, Any], resource: Resource) -> Declared | None:
    """A custom resource's schema, with all of metadata."""
    properties = dict(found.get("properties") or {})
    properties["metadata"] = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    whole = {**found, "type": "object", "properties": properties}
    name = f"{resource.group}.{resource.version}.{resource.kind}"
    return schema_types.declare(whole, name, is_root=True, definitions=schema.definitions())
