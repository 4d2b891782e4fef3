"""Selectors as authorization sees them: of requests, and of reviews, which may give them as text or in parts. Pure.

Used by the server's authorize step and by reviews. Only list, watch and deletecollection have them.
"""

from __future__ import annotations

from kybern.api.authorization_v1 import FieldSelectorAttributes, LabelSelectorAttributes, ResourceAttributes
from kybern.machinery import fields, labels, names, status
from kybern.machinery.status import FieldError

Fields = tuple[tuple[str, str, str], ...]
Labels = tuple[tuple[str, str, tuple[str, ...]], ...]

VERBS = frozenset({"list", "watch", "deletecollection"})
_NAMES = {
    labels.Operator.IN: "In",
    labels.Operator.EQUALS: "In",
    labels.Operator.NOT_IN: "NotIn",
    labels.Operator.NOT_EQUALS: "NotIn",
    labels.Operator.EXISTS: "Exists",
    labels.Operator.DOES_NOT_EXIST: "DoesNotExist",
}
_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")
_FIELDS_PATH = "spec.resourceAttributes.fieldSelector"
_LABELS_PATH = "spec.resourceAttributes.labelSelector"


def labels_of(text: str) -> Labels:
    """The terms of a label selector; those that reviews cannot say (gt, lt) are left out. Raises ValueError."""
    return tuple(
        (r.key, _NAMES[r.operator], r.values) for r in labels.parse_selector(text).requirements if r.operator in _NAMES
    )


def of_review(resource: ResourceAttributes) -> tuple[Fields, Labels, str]:
    """(fields, labels, what was ignored) of a review that is valid: an unreadable selector selects everything."""
    if resource.verb not in VERBS:
        return (), (), ""
    ignored = []
    try:
        of_fields = _fields(resource.fieldSelector)
    except ValueError:
        of_fields = ()
        ignored.append(f"{_FIELDS_PATH} ignored due to parse error")
    try:
        of_labels = _labels(resource.labelSelector)
    except ValueError:
        of_labels = ()
        ignored.append(f"{_LABELS_PATH} ignored due to parse error")
    return of_fields, of_labels, ", ".join(ignored)


def find_faults(resource: ResourceAttributes) -> list[FieldError]:
    return [*_field_faults(resource.fieldSelector), *_label_faults(resource.labelSelector)]


def _fields(selector: FieldSelectorAttributes | None) -> Fields:
    if selector is None:
        return ()
    if selector.rawSelector:
        return fields.parse_selector(selector.rawSelector).requirements
    found = []
    for requirement in selector.requirements:
        if requirement.operator not in _WITH_VALUES or len(requirement.values) != 1:
            raise ValueError("field selectors compare with one value")
        found.append((requirement.key, "=" if requirement.operator == "In" else "!=", requirement.values[0]))
    return tuple(found)


def _labels(selector: LabelSelectorAttributes | None) -> Labels:
    if selector is None:
        return ()
    if selector.rawSelector:
        return labels_of(selector.rawSelector)
    found = []
    for requirement in selector.requirements:
        if requirement.operator not in (*_WITH_VALUES, *_WITHOUT_VALUES):
            raise ValueError(f"not an operator: {requirement.operator}")
        found.append((requirement.key, requirement.operator, tuple(requirement.values)))
    return tuple(found)


def _form_faults(selector: FieldSelectorAttributes | LabelSelectorAttributes, path: str) -> list[FieldError]:
    if selector.rawSelector and selector.requirements:
        detail = "may not specified at the same time as requirements"
        return [status.invalid(f"{path}.rawSelector", selector.rawSelector, detail)]
    if not selector.rawSelector and not selector.requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        return [status.required(f"{path}.requirements", detail)]
    return []


def _field_faults(selector: FieldSelectorAttributes | None) -> list[FieldError]:
    if selector is None:
        return []
    errors = _form_faults(selector, _FIELDS_PATH)
    for number, requirement in enumerate(selector.requirements):
        where = f"{_FIELDS_PATH}.requirements[{number}]"
        if not requirement.key:
            errors.append(status.required(f"{where}.key", "must be specified"))
        errors += _value_faults(requirement.operator, list(requirement.values), where)
    return errors


def _label_faults(selector: LabelSelectorAttributes | None) -> list[FieldError]:
    if selector is None:
        return []
    errors = _form_faults(selector, _LABELS_PATH)
    for number, requirement in enumerate(selector.requirements):
        where = f"{_LABELS_PATH}.requirements[{number}]"
        errors += _value_faults(requirement.operator, list(requirement.values), where)
        errors += [status.invalid(f"{where}.key", requirement.key, e) for e in names.check_qualified(requirement.key)]
    return errors


def _value_faults(operator: str, values: list[str], where: str) -> list[FieldError]:
    if operator in _WITH_VALUES and not values:
        return [status.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")]
    if operator in _WITHOUT_VALUES and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [status.forbidden_field(f"{where}.values", detail)]
    return []
