"""MutatingAdmissionPolicy: a plugin that changes objects by policies, before the mutating webhooks.

Each mutation sees what those before it made. A policy that wants to (`reinvocationPolicy: IfNeeded`) is asked once more
where the object has been changed by others since.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.meta_v1 import StatusCause
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.policies import apply, waiting
from kybern.apiserver.admission.policies.apply import NotApplicable
from kybern.apiserver.admission.policies.definitions import EXEMPT, MUTATING, Binding, Definition, Definitions
from kybern.apiserver.admission.policies.evaluation import Evaluation
from kybern.apiserver.admission.policies.params import Unconfigured
from kybern.apiserver.admission.policies.validating import Sights, Tools
from kybern.apiserver.registry.registry import Registry
from kybern.machinery import cel
from kybern.machinery.merge.structured.schema import Node
from kybern.machinery.status import ApiError

_KEPT_ASIDE = "MutatingAdmissionPolicy"  # in Attributes.left_behind


class MutatingPolicies:
    """A plugin: see the module."""

    name = "MutatingAdmissionPolicy"

    def __init__(self, tools: Tools, registry: Registry) -> None:
        self._tools = tools
        self._registry = registry
        self._definitions = Definitions(tools.reader, MUTATING)

    def handles(self, a: Attributes) -> bool:
        return a.operation in ("CREATE", "UPDATE") and a.group_resource not in EXEMPT

    def validate(self, a: Attributes) -> None:
        return None

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        definitions = self._definitions.found
        return waiting.run(self._steps(definitions, a)) if definitions and a.object is not None else None

    def _steps(self, definitions: tuple[Definition, ...], a: Attributes) -> waiting.Steps:
        siblings = self._tools.versions.siblings(a)
        for definition in definitions:
            wanted = definition.matched(a, siblings, self._tools.reader)
            if wanted is None:
                continue
            for binding in definition.bindings:
                if binding.matches(a, siblings, self._tools.reader) and self._is_due(definition, binding, a):
                    yield from self._mutate(definition, binding, a, wanted)

    def _is_due(self, definition: Definition, binding: Binding, a: Attributes) -> bool:
        """In the second round: asked before, wants to be asked again, and the object is not as it left it."""
        if not a.round:
            return True
        left = a.left_behind.get(_key(definition, binding))
        return left is not None and left != codec.encode(a.object)

    def _mutate(self, definition: Definition, binding: Binding, a: Attributes, wanted: Resource) -> waiting.Steps:
        try:
            yield from self._tools.prepare(definition, binding, a, wanted)
        except ApiError as error:
            if definition.fails_open:
                return
            raise _unconvertible(a, definition, error.status.message or "") from None
        try:
            params = self._tools.params.find(definition.spec.paramKind, binding.params, a.namespace)
        except Unconfigured as error:
            if definition.fails_open:
                return
            raise _denied(a, definition, "" if error.of_policy else binding.name, str(error)) from None
        for one in params:
            try:
                if not Evaluation(definition, Sights(a, self._tools).of(wanted), one).meets_conditions():
                    continue
                for index in range(len(definition.spec.mutations)):
                    yield from self._step(definition, index, a, wanted, one)
            except (cel.EvaluationError, NotApplicable) as error:
                if not definition.fails_open:
                    raise _denied(a, definition, binding.name, str(error)) from None
        if definition.spec.reinvocationPolicy == "IfNeeded":
            a.left_behind[_key(definition, binding)] = codec.encode(a.object)

    def _step(self, definition: Definition, index: int, a: Attributes, wanted: Resource, params: Any) -> waiting.Steps:
        """One mutation. Raises cel.EvaluationError, NotApplicable, or ApiError 500 for what is no object any more."""
        program = definition.programs.mutations[index]
        assert program is not None, "a policy with faults is not evaluated"
        must_ask = self._tools.versions.must_ask(a, wanted)
        if must_ask:
            yield self._tools.versions.prepare(a, wanted)
        sight = Sights(a, self._tools).of(wanted)
        value = Evaluation(definition, sight, params).value_of(program)
        live = sight["object"]
        if definition.spec.mutations[index].patchType == "JSONPatch":
            changed = apply.patched(live, apply.operations_of(value))
        else:
            changed = self._applied(live, value, wanted)
        if changed == live:
            return
        before = codec.encode(a.object)
        if must_ask:
            yield self._tools.versions.prepare_back(a, changed, wanted)
        try:
            a.object = self._tools.versions.decode(a, changed, wanted)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _internal(str(error)) from None
        if codec.encode(a.object) != before:
            a.wants_round = True

    def _applied(self, live: Any, value: Any, wanted: Resource) -> Any:
        configuration = apply.to_json(value)
        if not isinstance(configuration, dict):
            raise NotApplicable("unexpected evaluation result: ApplyConfiguration must evaluate to Object")
        # What the object is cannot be changed, whatever the expression says.
        configuration |= {"apiVersion": live.get("apiVersion"), "kind": live.get("kind")}
        return apply.applied(self._node(wanted), live, configuration)

    def _node(self, wanted: Resource) -> Node:
        served = self._registry.by_path.get((wanted.group, wanted.version, wanted.plural))
        node = served.store.ownership.node_of(wanted.api_version) if served is not None else None
        if node is None:
            raise NotApplicable(f"error applying patch: no type found for {wanted.api_version}, Kind={wanted.kind}")
        return node


def _key(definition: Definition, binding: Binding) -> tuple[str, str]:
    return f"{_KEPT_ASIDE}/{definition.name}", binding.name


def _denied(a: Attributes, definition: Definition, binding: str, why: str) -> ApiError:
    where = f" with binding '{binding}'" if binding else ""
    return _refusal(a, "Invalid", f"policy '{definition.name}'{where} denied request: {why}")


def _unconvertible(a: Attributes, definition: Definition, why: str) -> ApiError:
    """Upstream has other words for it than for what else may go wrong."""
    message = f'policy "{definition.name}" denied request: failed to configure policy: {why}'
    return _refusal(a, "Forbidden", message)


def _refusal(a: Attributes, reason: str, message: str) -> ApiError:
    kind = (a.resource.group, a.resource.plural)
    causes = [StatusCause(message=message)]
    return ApiError.make(403, reason, message, group_kind=kind, name=a.name, causes=causes)


def _internal(why: str) -> ApiError:
    return ApiError.make(500, "InternalError", f"Internal error occurred: {why}", causes=[StatusCause(message=why)])
