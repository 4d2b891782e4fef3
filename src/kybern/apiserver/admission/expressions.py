"""What expressions of admission see of a write: `object`, `oldObject`, `request`, `authorizer`, `namespaceObject`.

Read by match_conditions and policies. Everything is made when an expression asks for it, once a write and version.
Source: "Validating Admission Policy: validation expression" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.webhooks import review
from kybern.apiserver.authorize.attributes import Attributes as Asked
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader, User
from kybern.machinery import cel, labels
from kybern.machinery.cel.library import authorizer as checks
from kybern.machinery.policies import environments

# What a match condition may cost: all of one webhook or policy together (kube-apiserver: a quarter of a policy).
CONDITIONS_LIMIT: Final = 2_500_000
CONDITIONS: Final = environments.environment()


class Converter(Protocol):
    """How an object under admission looks in another version (webhooks.versions)."""

    def encode(self, a: Attributes, obj: Any, wanted: Resource) -> bytes | None:
        """JSON. Raises ValueError."""
        ...


class Sight(dict[str, Any]):
    """The variables of one write, seen in one version: a value is made when it is first read."""

    def __init__(
        self,
        a: Attributes,
        wanted: Resource,
        reader: Reader,
        authorizers: Authorizers,
        versions: Converter | None = None,
    ) -> None:
        self._a = a
        self._versions = versions
        self._wanted = wanted
        self._reader = reader
        self._authorizers = authorizers

    def __missing__(self, name: str) -> Any:
        match name:
            case "object":
                value = self._json(self._a.object)
            case "oldObject":
                value = self._json(self._a.old)
            case "request":
                value = request_of(self._a, self._wanted)
            case "authorizer":
                value = self.authorizer
            case "authorizer.requestResource":
                value = self.request_check
            case "namespaceObject":
                value = self._namespace()
            case _:
                raise KeyError(name)
        self[name] = value
        return value

    def _json(self, obj: Any) -> Any:
        if obj is None:
            return None
        if self._versions is not None and self._wanted.api_version != self._a.resource.api_version:
            try:
                data = self._versions.encode(self._a, obj, self._wanted)
            except ValueError as error:
                raise cel.EvaluationError(str(error)) from None
            return msgspec.json.decode(data) if data is not None else None
        return codec.to_json(obj)

    def _namespace(self) -> Any:
        a = self._a
        found = self._reader.get("namespaces", "", a.namespace) if a.namespace else None
        return codec.to_json(found) if found is not None else None

    @property
    def authorizer(self) -> checks.Authorizer:
        return checks.Authorizer(self._ask)

    @property
    def request_check(self) -> checks.ResourceCheck:
        a = self._a
        question = checks.Question(
            group=a.resource.group,
            resource=a.resource.plural,
            subresource=a.subresource,
            namespace=a.namespace,
            name=a.name,
        )
        return checks.ResourceCheck(self._ask, question)

    def _ask(self, question: checks.Question) -> checks.Answer:
        user = self._a.user
        if question.service_account is not None:
            namespace, name = question.service_account
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            user = User(f"system:serviceaccount:{namespace}:{name}", groups=groups)
        if question.label_selector:
            try:
                labels.parse_selector(question.label_selector)
            except ValueError as error:
                return checks.Answer(False, error=str(error))
        asked = Asked(
            question.verb,
            question.group,
            question.resource,
            question.subresource,
            question.namespace,
            question.name,
            question.path,
            version="*",
        )
        decision = self._authorizers.authorize(user, asked)
        return checks.Answer(decision.allowed, decision.reason)


def request_of(a: Attributes, wanted: Resource) -> dict[str, Any]:
    """`request`: an AdmissionRequest without its objects."""
    asked = a.as_requested
    found: dict[str, Any] = {
        "uid": "",
        "kind": _kind(wanted, a),
        "resource": _resource(wanted),
        "requestKind": _kind(asked, a),
        "requestResource": _resource(asked),
        "operation": a.operation,
        "userInfo": _user(a.user),
        "dryRun": a.dry_run,
    }
    if a.subresource:
        found["subResource"] = found["requestSubResource"] = a.subresource
    if a.name:
        found["name"] = a.name
    namespace = a.name if a.group_resource == "namespaces" else a.namespace  # as in the path of the request
    if namespace:
        found["namespace"] = namespace
    options = review.options_of(a)
    if options is not None:
        found["options"] = options
    return found


def _kind(resource: Resource, a: Attributes) -> dict[str, str]:
    """The kind of what is written: a subresource may have its own."""
    for sub in resource.subresources:
        if sub.name == a.subresource and sub.kind:
            return {"group": sub.group, "version": sub.version, "kind": sub.kind}
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _resource(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def _user(user: User) -> dict[str, Any]:
    found: dict[str, Any] = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        found["uid"] = user.uid
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found
