"""ValidatingAdmissionPolicy: a plugin that refuses writes, warns of them, and annotates their audit, by policies.

Judges after everything that may change a write and before the validating webhooks.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kybern.api.meta_v1 import StatusCause, StatusDetails
from kybern.api.resource import Resource
from kybern.apiserver import audit
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.expressions import Sight
from kybern.apiserver.admission.policies import waiting
from kybern.apiserver.admission.policies.counts import Counts
from kybern.apiserver.admission.policies.definitions import EXEMPT, VALIDATING, Binding, Definition, Definitions
from kybern.apiserver.admission.policies.evaluation import Denial, Evaluation
from kybern.apiserver.admission.policies.params import Params, Unconfigured
from kybern.apiserver.admission.rule import forbidden
from kybern.apiserver.admission.webhooks.versions import Versions
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Reader
from kybern.machinery import cel
from kybern.machinery.status import ApiError

_CODES: Final = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_UNCONFIGURED: Final = "failed to configure binding: failed to convert object version"
_FAILURES: Final = "validation.policy.admission.k8s.io/validation_failure"


@dataclass(frozen=True, slots=True)
class Tools:
    """What both plugins work with."""

    reader: Reader
    versions: Versions
    params: Params
    authorizers: Authorizers

    def prepare(self, definition: Definition, binding: Binding, a: Attributes, wanted: Resource) -> waiting.Steps:
        """Have object and parameters at hand in the versions that a policy wants. Raises ApiError."""
        if self.versions.must_ask(a, wanted):
            yield self.versions.prepare(a, wanted)
        asked = self.params.prepare(definition.spec.paramKind, binding.params, a.namespace)
        if asked is not None:
            yield asked


def tools_of(registry: Registry, authorizers: Authorizers) -> Tools:
    return Tools(registry.objects, Versions(registry), Params(registry), authorizers)


class Sights:
    """The sights of one write, one a version in which policies want to see it."""

    def __init__(self, a: Attributes, tools: Tools) -> None:
        self._a = a
        self._tools = tools
        self._found: dict[str, Sight] = {}

    def of(self, wanted: Resource) -> Sight:
        found = self._found.get(wanted.api_version)
        if found is None:
            tools = self._tools
            found = Sight(self._a, wanted, tools.reader, tools.authorizers, tools.versions)
            self._found[wanted.api_version] = found
        return found


class ValidatingPolicies:
    """A plugin: see the module."""

    name = "ValidatingAdmissionPolicy"

    def __init__(self, tools: Tools, counts: Counts) -> None:
        self._tools = tools
        self._counts = counts
        self._definitions = Definitions(tools.reader, VALIDATING)

    def handles(self, a: Attributes) -> bool:
        return a.group_resource not in EXEMPT

    def admit(self, a: Attributes) -> None:
        return None

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        definitions = self._definitions.found
        return waiting.run(self._steps(definitions, a)) if definitions else None

    def _steps(self, definitions: tuple[Definition, ...], a: Attributes) -> waiting.Steps:
        siblings = self._tools.versions.siblings(a)
        verdict = _Verdict(a)
        sights = Sights(a, self._tools)
        for definition in definitions:
            wanted = definition.matched(a, siblings, self._tools.reader)
            if wanted is None:
                continue
            for binding in definition.bindings:
                if binding.matches(a, siblings, self._tools.reader):
                    try:
                        yield from self._tools.prepare(definition, binding, a, wanted)
                    except ApiError as error:
                        if not definition.fails_open:
                            why = f"{_UNCONFIGURED}: {error.status.message}"
                            verdict.refuse(definition.name, binding.name, Denial(why))
                        continue
                    self._judge(definition, binding, sights.of(wanted), verdict)
        verdict.settle()

    def _judge(self, definition: Definition, binding: Binding, sight: Sight, verdict: _Verdict) -> None:
        try:
            params = self._tools.params.find(definition.spec.paramKind, binding.params, verdict.a.namespace)
        except Unconfigured as error:
            if not definition.fails_open:
                name = "" if error.of_policy else binding.name
                verdict.refuse(definition.name, name, Denial(str(error)))
            return
        for one in params:
            evaluation = Evaluation(definition, sight, one)
            try:
                if not evaluation.meets_conditions():
                    continue
            except cel.EvaluationError as error:
                verdict.act(definition, binding, Denial(str(error)))
                continue
            began = self._counts.began()
            violations = list(evaluation.denials())
            self._counts.judged(definition.name, binding.name, binding.actions if violations else (), began)
            for denial in violations:
                verdict.act(definition, binding, denial)
            annotations, denials = evaluation.annotations()
            for denial in denials:
                verdict.act(definition, binding, denial)
            for key, text in annotations.items():
                verdict.annotate(f"{definition.name}/{key}", text)


class _Verdict:
    """What all policies together say of a write."""

    def __init__(self, a: Attributes) -> None:
        self.a = a
        self._refusal: ApiError | None = None  # the first one is told
        self._failures: list[dict[str, Any]] = []
        self._annotations: dict[str, list[str]] = {}

    def act(self, definition: Definition, binding: Binding, denial: Denial) -> None:
        if "Deny" in binding.actions:
            self.refuse(definition.name, binding.name, denial)
        if "Warn" in binding.actions:
            self.a.warnings.append(
                f"Validation failed for ValidatingAdmissionPolicy '{definition.name}' with binding "
                f"'{binding.name}': {denial.message}"
            )
        if "Audit" in binding.actions:
            self._failures.append(
                {
                    "message": denial.message,
                    "policy": definition.name,
                    "binding": binding.name,
                    "expressionIndex": denial.index,
                    "validationActions": list(binding.actions),
                }
            )

    def refuse(self, policy: str, binding: str, denial: Denial) -> None:
        if self._refusal is not None:
            return
        where = f" with binding '{binding}'" if binding else ""
        message = f"ValidatingAdmissionPolicy '{policy}'{where} denied request: {denial.message}"
        error = forbidden(self.a, message)
        error.status.reason = denial.reason or "Invalid"
        error.status.code = _CODES.get(error.status.reason, 422)
        details = error.status.details or StatusDetails()
        details.causes = [StatusCause(message=message)]
        error.status.details = details
        self._refusal = error

    def annotate(self, key: str, text: str) -> None:
        texts = self._annotations.setdefault(key, [])
        if text not in texts:
            texts.append(text)

    def settle(self) -> None:
        """Note what is to be audited, then raise the refusal if there is one."""
        if self._failures:
            audit.annotate(_FAILURES, msgspec.json.encode(self._failures).decode())
        for key, texts in self._annotations.items():
            audit.annotate(key, ", ".join(texts))
        if self._refusal is not None:
            raise self._refusal
