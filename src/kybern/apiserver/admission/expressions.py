"""What expressions of admission see of a write: `object`, `oldObject`, `request`, `authorizer`, `namespaceObject`.

Read by match_conditions and policies. Everything is made when an expression asks for it, once a write and version.
Source: "Validating Admission Policy: validation expression" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.authorize.attributes import Attributes as Asked
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import Reader, User
from kybern.machinery import cel, conversion, labels
from kybern.machinery.cel import types
from kybern.machinery.cel.library import authorizer as checks
from kybern.machinery.cel.types import ObjectField, ObjectType, Type

# What a match condition may cost: all of one webhook or policy together (kube-apiserver: a quarter of a policy).
CONDITIONS_LIMIT: Final = 2_500_000
AUTHORIZER: Final = types.opaque(checks.Authorizer.cel_type)
RESOURCE_CHECK: Final = types.opaque(checks.ResourceCheck.cel_type)


def _object(of: str, /, **fields: Type) -> ObjectType:
    return ObjectType(of, {key: ObjectField(kind, key) for key, kind in fields.items()})


_STRINGS = types.map_of(types.STRING, types.STRING)
_GVK = _object("kubernetes.GroupVersionKind", group=types.STRING, version=types.STRING, kind=types.STRING)
_GVR = _object("kubernetes.GroupVersionResource", group=types.STRING, version=types.STRING, resource=types.STRING)
_USER = _object(
    "kubernetes.UserInfo",
    username=types.STRING,
    uid=types.STRING,
    groups=types.list_of(types.STRING),
    extra=types.map_of(types.STRING, types.list_of(types.STRING)),
)
REQUEST: Final = _object(
    "kubernetes.AdmissionRequest",
    kind=_GVK.type,
    resource=_GVR.type,
    subResource=types.STRING,
    requestKind=_GVK.type,
    requestResource=_GVR.type,
    requestSubResource=types.STRING,
    name=types.STRING,
    namespace=types.STRING,
    operation=types.STRING,
    userInfo=_USER.type,
    dryRun=types.BOOL,
    options=types.DYN,
)
_METADATA = _object(
    "kubernetes.NamespaceMetadata",
    name=types.STRING,
    generateName=types.STRING,
    namespace=types.STRING,
    labels=_STRINGS,
    annotations=_STRINGS,
    UID=types.STRING,
    creationTimestamp=types.TIMESTAMP,
    deletionGracePeriodSeconds=types.INT,
    deletionTimestamp=types.TIMESTAMP,
    generation=types.INT,
    resourceVersion=types.STRING,
    finalizers=types.list_of(types.STRING),
)
_SPEC = _object("kubernetes.NamespaceSpec", finalizers=types.list_of(types.STRING))
_STATUS = _object("kubernetes.NamespaceStatus", phase=types.STRING)
NAMESPACE: Final = _object("kubernetes.Namespace", metadata=_METADATA.type, spec=_SPEC.type, status=_STATUS.type)
OBJECTS: Final = {t.name: t for t in (_GVK, _GVR, _USER, REQUEST, _METADATA, _SPEC, _STATUS, NAMESPACE)}

CONDITIONS: Final = cel.Environment(
    {
        "object": types.DYN,
        "oldObject": types.DYN,
        "request": REQUEST.type,
        "authorizer": AUTHORIZER,
        "authorizer.requestResource": RESOURCE_CHECK,
    },
    OBJECTS,
)

Convert = Callable[[Any, Resource, Resource], Any]


def as_json(obj: Any, stored: Resource, wanted: Resource) -> Any:
    """An object as JSON in another version of its resource."""
    value = codec.to_json(obj)
    if isinstance(value, dict) and wanted.api_version != stored.api_version:
        return conversion.convert(value, stored.kind, stored.api_version, wanted.api_version)
    return value


class Sight(dict[str, Any]):
    """The variables of one write, seen in one version: a value is made when it is first read."""

    def __init__(self, a: Attributes, wanted: Resource, reader: Reader, authorizers: Authorizers) -> None:
        self._a = a
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
        return None if obj is None else as_json(obj, self._a.resource, self._wanted)

    def _namespace(self) -> Any:
        a = self._a
        if a.group_resource == "namespaces":
            return self["object"] if a.object is not None else self["oldObject"]
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
    if a.namespace:
        found["namespace"] = a.namespace
    if a.options is not None:
        found["options"] = codec.to_json(a.options)
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
