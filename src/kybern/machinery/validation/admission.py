"""admissionregistration.k8s.io: webhooks, policies and their bindings, and their expressions."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from kybern.api import admissionregistration_v1 as v1
from kybern.api import admissionregistration_v1alpha1 as v1alpha1
from kybern.api import admissionregistration_v1beta1 as v1beta1
from kybern.api import codec
from kybern.machinery import names
from kybern.machinery.policies import environments, programs
from kybern.machinery.status import (
    duplicate,
    forbidden_field,
    internal_error,
    invalid,
    not_supported,
    required,
    too_many,
)
from kybern.machinery.validation import conditions, rules, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_REVIEWS = ("v1", "v1beta1")
_FAILURE = ("Fail", "Ignore")
_MATCH = ("Equivalent", "Exact")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def _check_webhooks(configuration: Any, errors: Errors) -> None:
    taken: set[str] = set()
    for i, webhook in enumerate(pausing(configuration.webhooks)):
        path = f"webhooks[{i}]"
        _check_webhook(webhook, path, errors)
        if webhook.name and webhook.name in taken:
            errors.append(duplicate(f"{path}.name", webhook.name))
        taken.add(webhook.name)


def _check_webhook(webhook: Any, path: str, errors: Errors) -> None:
    _check_qualified(webhook.name, f"{path}.name", errors)
    for i, rule in enumerate(pausing(webhook.rules)):
        check_rule(rule, f"{path}.rules[{i}]", errors)
    _check_choice(webhook.failurePolicy, f"{path}.failurePolicy", _FAILURE, errors)
    _check_choice(webhook.matchPolicy, f"{path}.matchPolicy", _MATCH, errors)
    if not webhook.sideEffects:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif webhook.sideEffects not in ("None", "NoneOnDryRun"):
        errors.append(not_supported(f"{path}.sideEffects", webhook.sideEffects, ("None", "NoneOnDryRun")))
    seconds = webhook.timeoutSeconds
    if seconds is not None and not 1 <= seconds <= 30:
        errors.append(invalid(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"))
    selectors.check_label_selector(webhook.namespaceSelector, f"{path}.namespaceSelector", errors)
    selectors.check_label_selector(webhook.objectSelector, f"{path}.objectSelector", errors)
    check_client(webhook.clientConfig, f"{path}.clientConfig", errors)
    _check_conditions(webhook.matchConditions, f"{path}.matchConditions", errors)
    _check_reviews(webhook.admissionReviewVersions, f"{path}.admissionReviewVersions", errors)
    policy = getattr(webhook, "reinvocationPolicy", None)
    if policy is not None and policy not in ("IfNeeded", "Never"):
        errors.append(not_supported(f"{path}.reinvocationPolicy", policy, ("IfNeeded", "Never")))


def _check_choice(value: str | None, path: str, choices: Sequence[str], errors: Errors) -> None:
    if value is not None and value not in choices:
        errors.append(not_supported(path, value, choices))


def _check_qualified(name: str, path: str, errors: Errors) -> None:
    """`my.webhook.example.com`."""
    if not name:
        errors.append(required(path))
        return
    faults = names.check_subdomain(name)
    for message in faults:
        errors.append(invalid(path, name, message))
    if not faults and name.count(".") < 2:
        errors.append(invalid(path, name, "should be a domain with at least three segments separated by dots"))


def _check_reviews(versions: Sequence[str], path: str, errors: Errors) -> None:
    if not versions:
        errors.append(required(path, f"must specify one of {', '.join(_REVIEWS)}"))
        return
    seen: set[str] = set()
    for i, version in enumerate(pausing(versions)):
        if version in seen:
            errors.append(invalid(f"{path}[{i}]", version, "duplicate version"))
            continue
        seen.add(version)
        rules.check_rule(version, f"{path}[{i}]", names.check_label_1035, errors)
    if not any(v in _REVIEWS for v in versions):
        message = f"must include at least one of {', '.join(_REVIEWS)}"
        errors.append(invalid(path, list(versions), message))


def check_client(config: Any, path: str, errors: Errors) -> None:
    """How to reach a webhook: a URL or a Service."""
    if (config.url is None) == (config.service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    elif config.url is not None:
        _check_url(config.url, f"{path}.url", errors)
    else:
        check_service(config.service, f"{path}.service", errors)


_PORT = re.compile(r":([^:\]@]+)$")


def _check_url(url: str, path: str, errors: Errors) -> None:
    try:
        parsed = urllib.parse.urlsplit(url)
        port = _PORT.search(parsed.netloc)
        if port is not None and not port[1].isdigit():
            raise ValueError(f'parse "{url}": invalid port ":{port[1]}" after host')
    except ValueError as error:
        errors.append(required(path, f"url must be a valid URL: {error}; desired format: https://host[/path]"))
        return
    if parsed.scheme != "https":
        message = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
        errors.append(invalid(path, parsed.scheme, message))
    if not parsed.hostname:
        errors.append(invalid(path, parsed.netloc, "host must be specified; desired format: https://host[/path]"))
    user = parsed.netloc.rpartition("@")[0]
    if user:
        errors.append(invalid(path, user, "user information is not permitted in the URL"))
    if parsed.fragment:
        errors.append(invalid(path, parsed.fragment, "fragments are not permitted in the URL"))
    if parsed.query:
        errors.append(invalid(path, parsed.query, "query parameters are not permitted in the URL"))


def check_service(service: Any, path: str, errors: Errors) -> None:
    # Upstream mixes the two up; whoever parses its answers gets the same ones here.
    rules.check_required(service.namespace, f"{path}.name", errors)
    rules.check_required(service.name, f"{path}.namespace", errors)
    if service.port is not None and not 1 <= service.port <= 65535:
        message = f"port is not valid: {rules.in_range(1, 65535)}"
        errors.append(invalid(f"{path}.port", service.port, message))
    value = service.path
    if value is None:
        return
    where = f"{path}.path"
    if value and not value.startswith("/"):
        errors.append(invalid(where, value, "must start with a '/'"))
    segments = value[1:].split("/") if value not in ("", "/") else []
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # a slash at the end is fine
    for i, segment in enumerate(pausing(segments)):
        if not segment:
            errors.append(invalid(where, value, f"segment[{i}] may not be empty"))
        else:
            for message in names.check_subdomain(segment):
                errors.append(invalid(where, value, f"segment[{i}]: {message}"))


def check_rule(rule: Any, path: str, errors: Errors) -> None:
    """Operations, groups, versions and resources of a webhook or a policy."""
    _check_star(rule.operations, f"{path}.operations", "operations", errors)
    for i, operation in enumerate(pausing(rule.operations)):
        if operation not in _OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{i}]", operation, _OPERATIONS))
    _check_star(rule.apiGroups, f"{path}.apiGroups", "API groups", errors)
    _check_star(rule.apiVersions, f"{path}.apiVersions", "API versions", errors)
    for i, version in enumerate(pausing(rule.apiVersions)):
        rules.check_required(version, f"{path}.apiVersions[{i}]", errors)
    _check_resources(rule.resources, f"{path}.resources", errors)
    _check_choice(rule.scope, f"{path}.scope", _SCOPES, errors)


def _check_star(values: Sequence[str], path: str, what: str, errors: Errors) -> None:
    if not values:
        errors.append(required(path))
    elif len(values) > 1 and "*" in values:
        errors.append(invalid(path, list(values), f"if '*' is present, must not specify other {what}"))


def _check_resources(found: Sequence[str], path: str, errors: Errors) -> None:
    if not found:
        errors.append(required(path))
        return
    whole: set[str] = set()  # resources with all subresources
    everywhere: set[str] = set()  # subresources of all resources
    for i, name in enumerate(pausing(found)):
        where = f"{path}[{i}]"
        if not name:
            errors.append(required(where))
            continue
        resource, slash, subresource = name.partition("/")
        if slash:
            if resource in whole:
                errors.append(invalid(where, name, f"if '{resource}/*' is present, must not specify {name}"))
            elif "*" in whole:
                errors.append(invalid(where, name, f"if '*/*' is present, must not specify {name}"))
            elif subresource in everywhere:
                errors.append(invalid(where, name, f"if '*/{subresource}' is present, must not specify {name}"))
            if subresource == "*":
                whole.add(resource)
            if resource == "*":
                everywhere.add(subresource)
    if len(found) > 1 and "*/*" in found:
        errors.append(invalid(path, list(found), "if '*/*' is present, must not specify other resources"))
    if len(found) > 1 and "*" in found and any("/" not in r for r in found if r != "*"):
        message = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, list(found), message))


def _check_expression(path: str, faults: Mapping[str, programs.Fault], errors: Errors) -> None:
    """What the compiler says of one expression."""
    fault = faults.get(path)
    if fault is not None and fault.is_internal:
        errors.append(internal_error(path, fault.message))
    elif fault is not None:
        errors.append(invalid(path, fault.text, fault.message))


def _check_conditions(
    conditions: Sequence[Any], path: str, errors: Errors, compiled: programs.Programs | None = None
) -> None:
    if len(conditions) > 64:
        errors.append(too_many(path, len(conditions), 64))
    taken: set[str] = set()
    if compiled is None:
        compiled = programs.conditions_of(conditions, path, environments.environment())
    faults = {fault.path: fault for fault in compiled.faults}
    for i, condition in enumerate(pausing(conditions)):
        where = f"{path}[{i}]"
        _check_expression(f"{where}.expression", faults, errors)
        if not condition.expression.strip():
            errors.append(required(f"{where}.expression"))
        if not condition.name:
            errors.append(required(f"{where}.name"))
        else:
            rules.check_rule(condition.name, f"{where}.name", names.check_qualified, errors)
            if condition.name in taken:
                errors.append(duplicate(f"{where}.name", condition.name))
            taken.add(condition.name)


# -- policies ----------------------------------------------------------------------------------------------------

_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    {
        "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
        "namespace", "null", "package", "return", "true", "var", "void", "while",
    }
)  # fmt: skip
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ANNOTATIONS, _LONGEST_ANNOTATION = 20, 5120
_NO_EXPRESSION = "expression is not specified"


def _check_shared(spec: Any, compiled: programs.Programs, errors: Errors) -> None:
    """What validating and mutating policies share."""
    faults = {fault.path: fault for fault in compiled.faults}
    if spec.failurePolicy is None:
        errors.append(required("spec.failurePolicy"))
    _check_choice(spec.failurePolicy, "spec.failurePolicy", _FAILURE, errors)
    if spec.paramKind is not None:
        _check_param_kind(spec.paramKind, "spec.paramKind", errors)
    if spec.matchConstraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        check_match(spec.matchConstraints, "spec.matchConstraints", errors)
        if not spec.matchConstraints.resourceRules:
            errors.append(required("spec.matchConstraints.resourceRules"))
    _check_conditions(spec.matchConditions, "spec.matchConditions", errors, compiled)
    for i, variable in enumerate(pausing(spec.variables)):
        path = f"spec.variables[{i}]"
        if not variable.name.strip():
            errors.append(required(f"{path}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(variable.name) or variable.name in _RESERVED:
            errors.append(invalid(f"{path}.name", variable.name, "must be a valid CEL identifier"))
        if not variable.expression.strip():
            errors.append(required(f"{path}.expression", _NO_EXPRESSION))
        _check_expression(f"{path}.expression", faults, errors)


def _check_param_kind(kind: Any, path: str, errors: Errors) -> None:
    version = kind.apiVersion or ""
    if not version:
        errors.append(required(f"{path}.apiVersion"))
    elif version.count("/") > 1:
        errors.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    else:
        group, slash, short = version.rpartition("/")
        if slash and group:
            rules.check_rule(group, f"{path}.apiVersion", names.check_subdomain, errors)
        if not short:
            errors.append(invalid(f"{path}.apiVersion", version, "version must be specified"))
        else:
            rules.check_rule(short, f"{path}.apiVersion", names.check_label_1035, errors)
    if not kind.kind:
        errors.append(required(f"{path}.kind"))
    else:
        for message in names.check_label_1035(kind.kind.lower()):
            errors.append(
                invalid(f"{path}.kind", kind.kind, f"may have mixed case, but should otherwise match: {message}")
            )


def check_match(match: Any, path: str, errors: Errors) -> None:
    _check_choice(match.matchPolicy, f"{path}.matchPolicy", _MATCH, errors)
    selectors.check_label_selector(match.namespaceSelector, f"{path}.namespaceSelector", errors)
    selectors.check_label_selector(match.objectSelector, f"{path}.objectSelector", errors)
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(getattr(match, field)):
            check_rule(rule, f"{path}.{field}[{i}]", errors)
            taken: set[str] = set()
            for j, name in enumerate(pausing(rule.resourceNames)):
                where = f"{path}.{field}[{i}].resourceNames[{j}]"
                rules.check_rule(name, where, names.check_path_segment, errors)
                if name in taken:
                    errors.append(duplicate(where, name))
                taken.add(name)


def _check_validating_policy(policy: v1.ValidatingAdmissionPolicy, errors: Errors) -> None:
    spec = policy.spec
    compiled = programs.of_policy(spec)
    faults = {fault.path: fault for fault in compiled.faults}
    _check_shared(spec, compiled, errors)
    if not spec.validations and not spec.auditAnnotations:
        message = "validations or auditAnnotations must contain at least one item"
        errors.append(required("spec.validations", message))
        errors.append(required("spec.auditAnnotations", message))
    for i, validation in enumerate(pausing(spec.validations)):
        path = f"spec.validations[{i}]"
        if not validation.expression.strip():
            errors.append(required(f"{path}.expression", _NO_EXPRESSION))
        _check_expression(f"{path}.expression", faults, errors)
        _check_expression(f"{path}.messageExpression", faults, errors)
        if validation.message is not None and validation.message != "":
            if not validation.message.strip():
                errors.append(invalid(f"{path}.message", validation.message, "must be non-empty if specified"))
            elif "\n" in validation.message:
                errors.append(invalid(f"{path}.message", validation.message, "must not contain line breaks"))
        if validation.messageExpression and not validation.messageExpression.strip():
            message = "must be non-empty if specified"
            errors.append(invalid(f"{path}.messageExpression", validation.messageExpression, message))
        _check_choice(validation.reason, f"{path}.reason", _REASONS, errors)
    keys: set[str] = set()
    for i, annotation in enumerate(pausing(spec.auditAnnotations)):
        path = f"spec.auditAnnotations[{i}]"
        rules.check_rule(f"{policy.metadata.name}/{annotation.key}", f"{path}.key", names.check_qualified, errors)
        if annotation.key in keys:
            errors.append(duplicate(f"{path}.key", annotation.key))
        keys.add(annotation.key)
        _check_expression(f"{path}.valueExpression", faults, errors)
        if not annotation.valueExpression.strip():
            errors.append(required(f"{path}.valueExpression", "valueExpression is not specified"))
        elif len(annotation.valueExpression.encode()) > _LONGEST_ANNOTATION:
            message = f"must not exceed {_LONGEST_ANNOTATION} bytes in length"
            errors.append(required(f"{path}.valueExpression", message))
    if len(spec.auditAnnotations) > _ANNOTATIONS:
        message = f"must not have more than {_ANNOTATIONS} auditAnnotations"
        errors.append(invalid("spec.auditAnnotations", codec.to_json(spec.auditAnnotations), message))


def _check_mutating_policy(policy: Any, errors: Errors) -> None:
    spec = policy.spec
    compiled = programs.of_policy(spec)
    faults = {fault.path: fault for fault in compiled.faults}
    _check_shared(spec, compiled, errors)
    for rule in spec.matchConstraints.resourceRules if spec.matchConstraints is not None else ():
        # There is nothing to change in what goes away.
        for operation in rule.operations:
            if operation not in _MUTABLE:
                where = "spec.matchConstraints.resourceRules.operations"
                errors.append(not_supported(where, operation, _MUTABLE))
    if not spec.mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(pausing(spec.mutations)):
        path = f"spec.mutations[{i}]"
        fields = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
        field = fields.get(mutation.patchType)
        if not mutation.patchType:
            errors.append(required(f"{path}.patchType"))
        elif field is None:
            errors.append(not_supported(f"{path}.patchType", mutation.patchType, tuple(fields)))
        elif getattr(mutation, field) is None:
            errors.append(required(f"{path}.{field}", f"must be specified when patchType is {mutation.patchType}"))
        elif not (getattr(mutation, field).expression or "").strip():
            errors.append(required(f"{path}.{field}.expression", _NO_EXPRESSION))
        else:
            _check_expression(f"{path}.{field}.expression", faults, errors)
        for other in fields.values() if field is not None else ():
            if other != field and getattr(mutation, other) is not None:
                message = f"must not be specified when patchType is {mutation.patchType}"
                errors.append(invalid(f"{path}.{other}", codec.to_json(getattr(mutation, other)), message))
    if not spec.reinvocationPolicy:
        errors.append(required("spec.reinvocationPolicy"))
    elif spec.reinvocationPolicy not in ("IfNeeded", "Never"):
        errors.append(not_supported("spec.reinvocationPolicy", spec.reinvocationPolicy, ("IfNeeded", "Never")))


_MUTABLE = ("*", "CONNECT", "CREATE", "UPDATE")
_ACTIONS = ("Audit", "Deny", "Warn")


def _check_binding(binding: Any, errors: Errors) -> None:
    """What bindings of validating and mutating policies share."""
    spec = binding.spec
    rules.check_name(spec.policyName, "spec.policyName", names.check_subdomain, errors)
    reference, path = spec.paramRef, "spec.paramRef"
    if reference is not None:
        if not reference.name and reference.selector is None:
            errors.append(required(path, "one of name or selector must be specified"))
        elif reference.name and reference.selector is not None:
            for field in ("name", "selector"):
                errors.append(forbidden_field(f"{path}.{field}", "name and selector are mutually exclusive"))
        if reference.name:
            rules.check_rule(reference.name, f"{path}.name", names.check_path_segment, errors)
        selectors.check_label_selector(reference.selector, f"{path}.selector", errors)
        action = reference.parameterNotFoundAction
        if not action:
            errors.append(required(f"{path}.parameterNotFoundAction"))
        elif action not in ("Deny", "Allow"):
            errors.append(not_supported(f"{path}.parameterNotFoundAction", action, ("Deny", "Allow")))
    if spec.matchResources is not None:
        check_match(spec.matchResources, "spec.matchResources", errors)


def _check_validating_binding(binding: v1.ValidatingAdmissionPolicyBinding, errors: Errors) -> None:
    _check_binding(binding, errors)
    path, actions = "spec.validationActions", binding.spec.validationActions
    if not actions:
        errors.append(required(path, "at least one validation action is required"))
    seen: set[str] = set()
    for i, action in enumerate(pausing(actions)):
        if action not in _ACTIONS:
            errors.append(not_supported(f"{path}[{i}]", action, _ACTIONS))
        if action in seen:
            errors.append(duplicate(f"{path}[{i}]", action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        message = (
            "must not contain both Deny and Warn (repeating the same validation failure information "
            "in the API response and headers serves no purpose)"
        )
        errors.append(invalid(path, list(actions), message))


def _status_of_policy(policy: Any, old: Any, errors: Errors) -> None:
    conditions.check(policy.status.conditions, "status.conditions", errors)


RULES: dict[type[Any], Rules] = {
    v1.ValidatingWebhookConfiguration: Rules(_check_webhooks),
    v1.MutatingWebhookConfiguration: Rules(_check_webhooks),
    v1.ValidatingAdmissionPolicy: Rules(_check_validating_policy, None, _status_of_policy),
    v1.ValidatingAdmissionPolicyBinding: Rules(_check_validating_binding),
    **{m.MutatingAdmissionPolicy: Rules(_check_mutating_policy) for m in (v1, v1beta1, v1alpha1)},
    **{m.MutatingAdmissionPolicyBinding: Rules(_check_binding) for m in (v1, v1beta1, v1alpha1)},
}
