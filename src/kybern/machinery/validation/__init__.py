"""What upstream would refuse, as field errors with upstream's words. Pure; called after defaults and admission.

Fed by registry strategies. `metadata` is checked for every kind; one module a family of kinds has the rest and lists it
in `RULES`; kinds without rules of their own get `schema`: required texts must not be empty.
Not checked here: what needs other objects (quota, allocation, references), which is admission's and the strategies'.
Source: the API reference, and the answers of a v1.36 API server (tests/unit/machinery/validation/recorded.jsonl).
"""

from __future__ import annotations

from typing import Any

from kybern.api.meta_v1 import ObjectMeta
from kybern.api.resource import Resource
from kybern.machinery import scheme
from kybern.machinery.status import FieldError
from kybern.machinery.validation import (
    admission,
    core,
    device_claims,
    device_slices,
    jobs,
    metadata,
    migration,
    networking,
    pod_certificates,
    pods,
    policy,
    schema,
    server,
    services,
    storage,
    trust,
    workloads,
)
from kybern.machinery.validation.rules import Rules

_FAMILIES = (
    pods,
    workloads,
    jobs,
    services,
    core,
    storage,
    networking,
    policy,
    admission,
    server,
    migration,
    trust,
    pod_certificates,
    device_claims,
    device_slices,
)
RULES: dict[type[Any], Rules] = {kind: rules for family in _FAMILIES for kind, rules in family.RULES.items()}

_GENERIC = Rules(create=schema.check)


def validate_create(obj: Any) -> list[FieldError]:
    """All that is wrong with a new object; [] if nothing is."""
    errors: list[FieldError] = []
    kind: Any = type(obj)
    resource = scheme.resource_of(kind)
    metadata.check(obj.metadata, resource, errors)
    rules = RULES.get(type(obj), _GENERIC)
    if rules.create is not None:
        rules.create(obj, errors)
    return errors


def validate_version(api_version: str, obj: Any, old: Any | None) -> list[FieldError]:
    """What a version asks for beyond the one that is stored. `obj` has been written as `api_version`, and is of the
    stored version by now, as is `old`, None if `obj` is new.
    """
    errors: list[FieldError] = []
    check = core.VERSION_RULES.get((api_version, obj.kind))
    if check is not None:
        check(obj, old, errors)
    return errors


def validate_update(obj: Any, old: Any) -> list[FieldError]:
    """All that is wrong with `obj` as the successor of `old`."""
    errors: list[FieldError] = []
    resource = _checked_metadata(obj, old, errors)
    rules = RULES.get(type(obj), _GENERIC)
    if rules.update is not None:
        rules.update(obj, old, errors)
    elif rules.create is not None and not _is_leaving(obj, resource):
        rules.create(obj, errors)
    return _unique(errors)


def validate_status_update(obj: Any, old: Any) -> list[FieldError]:
    """All that is wrong with a write to the status subresource."""
    errors: list[FieldError] = []
    _checked_metadata(obj, old, errors, of_status=True)
    rules = RULES.get(type(obj), _GENERIC)
    if rules.status is not None:
        rules.status(obj, old, errors)
    return _unique(errors)


def validate_approval(obj: Any, old: Any) -> list[FieldError]:
    """All that is wrong with a write to a certificate request's approval subresource."""
    errors: list[FieldError] = []
    _checked_metadata(obj, old, errors, of_status=True)
    server.check_decision(obj, old, errors)
    return _unique(errors)


def check_lone_metadata(meta: ObjectMeta, errors: list[FieldError]) -> None:
    """What is wrong with the metadata of an object that is no resource, such as a Scale."""
    found: list[FieldError] = []
    metadata.check_lone(meta, found)
    errors.extend(_unique(found))


def validate_finalize(obj: Any, old: Any) -> list[FieldError]:
    """All that is wrong with a write to a namespace's finalize subresource."""
    errors: list[FieldError] = []
    _checked_metadata(obj, old, errors, of_status=True)
    core.check_namespace_finalizers(obj, errors)
    return _unique(errors)


def _checked_metadata(obj: Any, old: Any, errors: list[FieldError], *, of_status: bool = False) -> Resource:
    kind: Any = type(obj)
    resource = scheme.resource_of(kind)
    metadata.check_update(obj.metadata, old.metadata, resource, errors, of_status=of_status)
    return resource


def _is_leaving(obj: Any, resource: Resource) -> bool:
    """An object on its way out may always lose its finalizers, valid or not."""
    return obj.metadata.deletionTimestamp is not None and not obj.metadata.finalizers


def _unique(errors: list[FieldError]) -> list[FieldError]:
    return list(dict.fromkeys(errors)) if len(errors) > 1 else errors
