"""Group, scope, names, versions and what belongs to a version, but for its schema. Pure.

Called by definition_strategy. An update is held to what is new: schemas that have not changed are not judged again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kybern.api import codec
from kybern.api.apiextensions_v1 import (
    CustomResourceDefinition,
    CustomResourceDefinitionNames,
)
from kybern.apiserver.custom_resources import conditions, jsonpath
from kybern.apiserver.custom_resources.definition import rules as definition_rules
from kybern.apiserver.custom_resources.definition import schema as definition_schema
from kybern.apiserver.custom_resources.structural import Schema
from kybern.machinery import names
from kybern.machinery.status import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_sorted = msgspec.json.Encoder(order="deterministic").encode
_MAX_SELECTABLE = 8
_MAX_WARNING = 256
# What the root of a schema may say beside a status subresource: nothing that a write to either half could break.
_ROOT_FIELDS = frozenset(
    {
        "description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum",
        "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items",
        "properties", "externalDocs", "example", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    }
)  # fmt: skip
_ROOT_TOLD = (
    "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations] fields are allowed at the root of the schema if the status subresource is enabled"
)


def check_create(definition: CustomResourceDefinition) -> Errors:
    """All that is wrong with a new definition, but for its metadata in general."""
    errors: Errors = []
    _check_name(definition, errors)
    _check_group(definition, errors)
    _check_scope(definition, errors)
    _check_versions(definition, errors)
    if definition.spec.preserveUnknownFields:
        told = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        errors.append(invalid("spec.preserveUnknownFields", True, told))
    _check_parts(definition, None, errors)
    _check_names(definition, errors)
    _check_conversion(definition, errors)
    _check_stored(definition, errors)
    _check_approval(definition, None, errors)
    return errors


def check_update(definition: CustomResourceDefinition, old: CustomResourceDefinition) -> Errors:
    """All that is wrong with a definition as the successor of another."""
    errors: Errors = []
    spec, before = definition.spec, old.spec
    _check_group(definition, errors)
    _check_scope(definition, errors)
    _check_versions(definition, errors)
    if spec.preserveUnknownFields and not before.preserveUnknownFields:
        told = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        errors.append(invalid("spec.preserveUnknownFields", True, told))
    _check_parts(definition, old, errors)
    _check_names(definition, errors)
    _check_conversion(definition, errors)
    if conditions.has(old, "Established"):
        rules.check_immutable(spec.scope, before.scope, "spec.scope", errors)
        rules.check_immutable(spec.names.kind, before.names.kind, "spec.names.kind", errors)
    rules.check_immutable(spec.group, before.group, "spec.group", errors)
    rules.check_immutable(spec.names.plural, before.names.plural, "spec.names.plural", errors)
    _check_stored(definition, errors)
    _check_approval(definition, old, errors)
    return errors


def check_status(definition: CustomResourceDefinition) -> Errors:
    """What is wrong with the names that somebody says are accepted."""
    errors: Errors = []
    if definition.status.acceptedNames is not None:
        _check_spelling(definition.status.acceptedNames, "status.acceptedNames", errors)
    return errors


def schema_faults(definition: CustomResourceDefinition) -> list[str]:
    """What keeps the schemas of a stored definition from being structural."""
    errors: Errors = []
    _each_schema(definition, None, errors, definition_schema.check)
    return [str(error) for error in errors]


def _check_name(definition: CustomResourceDefinition, errors: Errors) -> None:
    spec = definition.spec
    for field in ("name", "generateName"):
        value = getattr(definition.metadata, field)
        if value and value != f"{spec.names.plural}.{spec.group}":
            errors.append(invalid(f"metadata.{field}", value, 'must be spec.names.plural+"."+spec.group'))


def _check_group(definition: CustomResourceDefinition, errors: Errors) -> None:
    group = definition.spec.group
    if not group:
        errors.append(required("spec.group"))
    elif names.check_subdomain(group):
        rules.check_rule(group, "spec.group", names.check_subdomain, errors)
    elif "." not in group:
        errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))


def _check_scope(definition: CustomResourceDefinition, errors: Errors) -> None:
    scope = definition.spec.scope
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        errors.append(not_supported("spec.scope", scope, ("Cluster", "Namespaced")))


def _check_versions(definition: CustomResourceDefinition, errors: Errors) -> None:
    versions = definition.spec.versions
    found = [version.name for version in versions]
    for i, version in enumerate(versions):
        path = f"spec.versions[{i}]"
        rules.check_rule(version.name, f"{path}.name", names.check_label_1035, errors)
        _check_deprecation(version.deprecated, version.deprecationWarning, path, errors)
        if version.schema is None or version.schema.openAPIV3Schema is None:
            errors.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    if found and found[0]:  # told at its old place, too
        rules.check_rule(found[0], "spec.version", names.check_label_1035, errors)
    if len(set(found)) != len(found):
        errors.append(_of_versions(definition, "must contain unique version names"))
    if sum(v.storage for v in versions) != 1:
        errors.append(_of_versions(definition, "must have exactly one version marked as storage version"))


def _of_versions(definition: CustomResourceDefinition, told: str) -> FieldError:
    """With the versions as upstream shows them: under Go's names."""
    shown = [
        {
            "Name": v.name,
            "Served": v.served,
            "Storage": v.storage,
            "Deprecated": bool(v.deprecated),
            "DeprecationWarning": v.deprecationWarning,
            "Schema": None,
            "Subresources": None,
            "AdditionalPrinterColumns": None,
            "SelectableFields": None,
        }
        for v in definition.spec.versions
    ]
    return invalid("spec.versions", shown, told)


def _check_deprecation(deprecated: bool | None, warning: str | None, path: str, errors: Errors) -> None:
    if warning is None:
        return
    where = f"{path}.deprecationWarning"
    if not deprecated:
        errors.append(invalid(where, warning, "can only be set for deprecated versions"))
    if len(warning) > _MAX_WARNING:
        errors.append(invalid(where, warning, f"must be <= {_MAX_WARNING} characters long"))
    if not warning:
        errors.append(invalid(where, warning, "must not be an empty string"))
    for i, char in enumerate(warning):
        if char != " " and unicodedata.category(char)[0] in "CZ":
            told = f"must only contain printable UTF-8 characters; non-printable character found at index {i}"
            errors.append(invalid(where, warning, told))
            break


# -- what belongs to a version -------------------------------------------------------------------------------------


def _check_parts(definition: CustomResourceDefinition, old: CustomResourceDefinition | None, errors: Errors) -> None:
    _each_schema(definition, old, errors, _check_schema)
    versions = definition.spec.versions
    shared = _shared(definition, "additionalPrinterColumns")
    for i, version in enumerate(versions[:1] if shared else versions):
        path = "spec" if shared else f"spec.versions[{i}]"
        for number, column in enumerate(version.additionalPrinterColumns):
            _check_column(column, f"{path}.additionalPrinterColumns[{number}]", errors)
    shared = _shared(definition, "subresources")
    for i, version in enumerate(versions[:1] if shared else versions):
        path = "spec" if shared else f"spec.versions[{i}]"
        if version.subresources is not None and version.subresources.scale is not None:
            _check_scale(version.subresources.scale, f"{path}.subresources.scale", errors)
    shared = _shared(definition, "selectableFields")
    for i, version in enumerate(versions[:1] if shared else versions):
        path = "spec" if shared else f"spec.versions[{i}]"
        schema = version.schema.openAPIV3Schema if version.schema is not None else None
        if schema is None:
            if version.selectableFields:
                of = "validations.schema is" if shared else "`version.schema.openAPIV3Schema` is not"
                errors.append(invalid(f"{path}.selectableFields", "", f"may only be set when {of} included"))
            continue
        _check_selectable(version.selectableFields, codec.to_json(schema), f"{path}.selectableFields", errors)


def _shared(definition: CustomResourceDefinition, part: str) -> bool:
    """Whether all versions say the same: then upstream judges it once, and names it at the top."""
    versions = definition.spec.versions
    return bool(versions) and all(getattr(v, part) == getattr(versions[0], part) for v in versions)


def _each_schema(
    definition: CustomResourceDefinition,
    old: CustomResourceDefinition | None,
    errors: Errors,
    check: Callable[[Schema, str, Errors], None],
) -> None:
    versions = definition.spec.versions
    shared = _shared(definition, "schema")
    known = {v.name: v for v in old.spec.versions} if old is not None else {}
    for i, version in enumerate(versions[:1] if shared else versions):
        if version.schema is None or version.schema.openAPIV3Schema is None:
            continue
        schema = codec.to_json(version.schema.openAPIV3Schema)
        before = known.get(version.name)
        has_status = version.subresources is not None and version.subresources.status is not None
        if before is not None and before.subresources == version.subresources and _same(before.schema, version.schema):
            continue
        path = "spec.validation.openAPIV3Schema" if shared else f"spec.versions[{i}].schema.openAPIV3Schema"
        if has_status and not {name for name, said in schema.items() if said is not False} <= _ROOT_FIELDS:
            errors.append(invalid(path, schema, _ROOT_TOLD))
        check(schema, path, errors)


def _same(one: Any, other: Any) -> bool:
    return _sorted(codec.to_json(one)) == _sorted(codec.to_json(other))


def _check_schema(schema: Schema, path: str, errors: Errors) -> None:
    found: Errors = []
    definition_schema.check(schema, path, found)
    if not found:
        definition_rules.check(schema, path, found)
    errors.extend(found)


def _check_column(column: Any, path: str, errors: Errors) -> None:
    if not column.name:
        errors.append(required(f"{path}.name"))
    told = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not column.type:
        errors.append(required(f"{path}.type", told))
    elif column.type not in _COLUMN_TYPES:
        errors.append(invalid(f"{path}.type", column.type, told))
    if column.format and column.format not in _COLUMN_FORMATS:
        errors.append(invalid(f"{path}.format", column.format, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    if not column.jsonPath:
        errors.append(required(f"{path}.JSONPath"))
    else:
        _check_path(column.jsonPath, f"{path}.JSONPath", errors)


def _check_path(path: str, where: str, errors: Errors) -> bool:
    if path.startswith("."):
        return True
    errors.append(invalid(where, path, "must be a simple json path starting with ."))
    return False


def _check_scale(scale: Any, path: str, errors: Errors) -> None:
    for field, roots, told in (
        ("specReplicasPath", (".spec.",), "should be a json path under .spec"),
        ("statusReplicasPath", (".status.",), "should be a json path under .status"),
        ("labelSelectorPath", (".spec.", ".status."), "should be a json path under either .spec or .status"),
    ):
        value = getattr(scale, field)
        where = f"{path}.{field}"
        if not value:
            if field != "labelSelectorPath":
                errors.append(required(where))
        elif _check_path(value, where, errors) and not value.startswith(roots):
            errors.append(invalid(where, value, told))


def _check_selectable(fields: list[Any], schema: Schema, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, field in enumerate(fields):
        where = f"{path}[{i}].jsonPath"
        if not field.jsonPath:
            errors.append(required(where))
            continue
        kind, fault = _field_at(field.jsonPath, schema)
        if fault:
            errors.append(invalid(where, field.jsonPath, f"is an invalid path: {fault}"))
            continue
        if field.jsonPath in seen:
            errors.append(duplicate(where, field.jsonPath))
        seen.add(field.jsonPath)
        if kind not in ("string", "boolean", "integer"):
            told = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            errors.append(invalid(where, field.jsonPath, told))
    if len(seen) > _MAX_SELECTABLE:
        told = f"Too many: {len(seen)}: must have at most {_MAX_SELECTABLE} items"
        errors.append(FieldError("FieldValueTooMany", path, told))


def _field_at(path: str, schema: Schema) -> tuple[str, str]:
    """The type of a field that may be selected by; why there is none."""
    if not path.startswith("."):
        return "", f"expected [ or . but got: {path.partition('.')[0]}"
    if "[" in path:
        return "", "array notation is not allowed"
    try:
        found = jsonpath.field_names(path)
    except jsonpath.PathError as error:
        return "", str(error)
    node: Any = None if found[:1] == ["metadata"] else schema
    for name in found:
        node = node and (node.get("properties") or {}).get(name)
    return ("", "does not refer to a valid field") if node is None else (node.get("type", ""), "")


# -- names, conversion, status -------------------------------------------------------------------------------------


def _check_names(definition: CustomResourceDefinition, errors: Errors) -> None:
    found, path = definition.spec.names, "spec.names"
    for field in ("plural", "singular", "kind", "listKind"):
        if not getattr(found, field):
            errors.append(required(f"{path}.{field}"))
    _check_spelling(found, path, errors)
    if found.kind and found.kind == found.listKind:
        errors.append(invalid(f"{path}.listKind", found.listKind, "kind and listKind may not be the same"))


def _check_spelling(found: CustomResourceDefinitionNames, path: str, errors: Errors) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        value = getattr(found, field) or ""
        if not value:
            continue
        mixed = field in ("kind", "listKind")
        for message in names.check_label_1035(value.lower() if mixed else value):
            told = f"may have mixed case, but should otherwise match: {message}" if mixed else message
            errors.append(invalid(f"{path}.{field}", value, told))
    for field in ("shortNames", "categories"):
        for i, name in enumerate(getattr(found, field)):
            rules.check_rule(name, f"{path}.{field}[{i}]", names.check_label_1035, errors)


def _check_conversion(definition: CustomResourceDefinition, errors: Errors) -> None:
    conversion, path = definition.spec.conversion, "spec.conversion"
    if conversion is None:
        return
    if definition.spec.preserveUnknownFields and conversion.strategy == "Webhook":
        told = "must be None if spec.preserveUnknownFields is true"
        errors.append(invalid(f"{path}.strategy", conversion.strategy, told))
    webhook = conversion.webhook
    if not conversion.strategy:
        errors.append(required(f"{path}.strategy"))
    elif conversion.strategy not in ("None", "Webhook"):
        errors.append(not_supported(f"{path}.strategy", conversion.strategy, ("None", "Webhook")))
    if conversion.strategy != "Webhook":
        told = "should not be set when strategy is not set to Webhook"
        if conversion.strategy and webhook is not None and webhook.clientConfig is not None:
            errors.append(forbidden_field(f"{path}.webhookClientConfig", told))
        if conversion.strategy and webhook is not None and webhook.conversionReviewVersions:
            errors.append(forbidden_field(f"{path}.conversionReviewVersions", told))
        return
    if webhook is None or webhook.clientConfig is None:
        errors.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        _check_client(webhook.clientConfig, f"{path}.webhookClientConfig", errors)
    versions = webhook.conversionReviewVersions if webhook is not None else []
    where = f"{path}.conversionReviewVersions"
    if not versions:
        errors.append(required(where))
        return
    seen: set[str] = set()
    for i, version in enumerate(versions):
        if version in seen:
            errors.append(invalid(f"{where}[{i}]", version, "duplicate version"))
        seen.add(version)
        rules.check_rule(version, f"{where}[{i}]", names.check_label_1035, errors)
    if not seen & {"v1", "v1beta1"}:
        errors.append(invalid(where, versions, "must include at least one of v1, v1beta1"))


def _check_client(config: Any, path: str, errors: Errors) -> None:
    if (config.url is None) == (config.service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    if config.url is not None and config.service is None:
        _check_url(config.url, f"{path}.url", errors)
    elif config.service is not None and config.url is None:
        service = config.service
        # Upstream takes one for the other when it says which is missing.
        for field, said in (("namespace", service.name), ("name", service.namespace)):
            if not said:
                errors.append(required(f"{path}.service.{field}"))
        if service.port is not None and not 1 <= service.port <= 65535:
            told = "port is not valid: must be between 1 and 65535, inclusive"
            errors.append(invalid(f"{path}.service.port", service.port, told))
        if service.path:
            _check_service_path(service.path, f"{path}.service.path", errors)


def _check_url(url: str, where: str, errors: Errors) -> None:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        errors.append(required(where, f"url must be a valid URL: {error}{form}"))
        return
    if parts.scheme != "https":
        errors.append(invalid(where, parts.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not parts.hostname:
        errors.append(invalid(where, parts.netloc, f"host must be specified{form}"))
    if parts.username is not None:
        errors.append(invalid(where, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(where, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(where, parts.query, "query parameters are not permitted in the URL"))


def _check_service_path(path: str, where: str, errors: Errors) -> None:
    if not path.startswith("/"):
        errors.append(invalid(where, path, "must start with a '/'"))
    if path == "/":
        return
    for i, step in enumerate(path.removeprefix("/").removesuffix("/").split("/") if path.startswith("/") else [""]):
        if not step:
            errors.append(invalid(where, path, f"segment[{i}] may not be empty"))
            continue
        for message in names.check_subdomain(step):
            errors.append(invalid(where, path, f"segment[{i}]: {message}"))


def _check_stored(definition: CustomResourceDefinition, errors: Errors) -> None:
    stored, path = definition.status.storedVersions, "status.storedVersions"
    if not stored:
        errors.append(invalid(path, None, "must have at least one stored version"))
        return
    known = {v.name for v in definition.spec.versions}
    for i, version in enumerate(stored):
        if version not in known:
            told = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{version} and removes {version} from status.storedVersions"
            )
            errors.append(invalid(f"{path}[{i}]", version, told))
    current = [v.name for v in definition.spec.versions if v.storage]
    if current and (current[-1] not in stored or len(current) > 1):
        errors.append(invalid(path, list(stored), f"must have the storage version {current[-1]}"))


def _check_approval(definition: CustomResourceDefinition, old: CustomResourceDefinition | None, errors: Errors) -> None:
    """Groups of Kubernetes itself need somebody's word; what was there without may stay."""
    group = definition.spec.group
    annotation = definition.metadata.annotations.get(conditions.APPROVAL)
    judged = conditions.judge_approval(group, annotation)
    if judged is None:
        return
    if old is not None and old.metadata.annotations.get(conditions.APPROVAL) == annotation:
        return
    where = f"metadata.annotations[{conditions.APPROVAL}]"
    if judged[1] == "MissingAnnotation":
        errors.append(required(where, judged[2]))
    elif judged[1] == "InvalidAnnotation":
        errors.append(invalid(where, annotation, judged[2]))
