"""What expressions of admission may name, with the types that their texts are checked against.

Source: "Validating Admission Policy: validation expression" and "Mutating Admission Policy" in the Kubernetes
documentation. Objects are dyn: a policy may be about many kinds. type_checking gives them types, for warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from kybern.machinery.cel import types
from kybern.machinery.cel.library import LIBRARIES, authorizer, json_patches
from kybern.machinery.cel.program import Environment
from kybern.machinery.cel.types import ObjectField, ObjectType, Type

AUTHORIZER: Final = types.opaque(authorizer.Authorizer.cel_type)
RESOURCE_CHECK: Final = types.opaque(authorizer.ResourceCheck.cel_type)
VARIABLES: Final = "kubernetes.variables"


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
_CONDITION = _object(
    "kubernetes.NamespaceCondition",
    type=types.STRING,
    status=types.STRING,
    lastTransitionTime=types.TIMESTAMP,
    reason=types.STRING,
    message=types.STRING,
)
_STATUS = _object("kubernetes.NamespaceStatus", phase=types.STRING, conditions=types.list_of(_CONDITION.type))
NAMESPACE: Final = _object("kubernetes.Namespace", metadata=_METADATA.type, spec=_SPEC.type, status=_STATUS.type)
OBJECTS: Final = {t.name: t for t in (_GVK, _GVR, _USER, REQUEST, _METADATA, _SPEC, _CONDITION, _STATUS, NAMESPACE)}

_SHARED: Final[dict[str, Type]] = {
    "object": types.DYN,
    "oldObject": types.DYN,
    "request": REQUEST.type,
    "namespaceObject": NAMESPACE.type,
}
_AUTHORIZED: Final[dict[str, Type]] = {"authorizer": AUTHORIZER, "authorizer.requestResource": RESOURCE_CHECK}


class _AnyField(Mapping[str, ObjectField]):
    """Fields of a type that nobody declares: each is there, of any type."""

    def __getitem__(self, name: str) -> ObjectField:
        return ObjectField(types.DYN, name)

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class ApplyTypes(dict[str, ObjectType]):
    """Object types with `Object` and everything below it (`Object.spec.template`), made when they are named."""

    def get(self, name: str, default: ObjectType | None = None) -> ObjectType | None:  # type: ignore[override]
        found = super().get(name)
        if found is None and is_apply_type(name):
            found = self[name] = ObjectType(name, _AnyField())
        return found if found is not None else default

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and is_apply_type(name))

    def __missing__(self, name: str) -> ObjectType:
        if not is_apply_type(name):
            raise KeyError(name)
        found = self.get(name)
        assert found is not None
        return found


def is_apply_type(name: str) -> bool:
    return name == "Object" or name.startswith("Object.")


@lru_cache(maxsize=64)
def environment(*, params: bool = False, authorized: bool = True, mutating: bool = False) -> Environment:
    """Of match conditions, and of expressions of policies without variables."""
    return with_variables(None, params=params, authorized=authorized, mutating=mutating)


def with_variables(
    variables: Mapping[str, Type] | None,
    *,
    params: bool = False,
    authorized: bool = True,
    mutating: bool = False,
    typed: Environment | None = None,
) -> Environment:
    """Of the expressions of a policy: `variables` are those before it, with their types.

    `typed`: the types of object, oldObject and params, where they are known, and the object types in them.
    """
    names = dict(_SHARED)
    objects: dict[str, ObjectType] = ApplyTypes(OBJECTS) if mutating else dict(OBJECTS)
    if params:
        names["params"] = types.DYN
    if authorized:
        names |= _AUTHORIZED
    if typed is not None:
        names |= {name: kind for name, kind in typed.variables.items() if name in names}
        objects.update(typed.objects)
    if variables is not None:
        made = ObjectType(VARIABLES, {name: ObjectField(kind, name) for name, kind in variables.items()})
        names["variables"] = made.type
        objects[VARIABLES] = made
    if mutating:
        objects[json_patches.PATCH.name] = json_patches.PATCH
        return Environment(names, objects, (*LIBRARIES, json_patches.LIBRARY))
    return Environment(names, objects)
