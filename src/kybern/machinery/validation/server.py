"""What configures the API server itself: aggregation, flow control, certificates."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from typing import Any

from kybern.api import codec
from kybern.api.apiregistration_v1 import APIService
from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.api.flowcontrol_v1 import (
    FlowDistinguisherMethod,
    FlowSchema,
    FlowSchemaSpec,
    GroupSubject,
    LimitedPriorityLevelConfiguration,
    LimitResponse,
    NonResourcePolicyRule,
    PolicyRulesWithSubjects,
    PriorityLevelConfiguration,
    PriorityLevelConfigurationReference,
    PriorityLevelConfigurationSpec,
    ResourcePolicyRule,
    Subject,
)
from kybern.machinery import names, pem
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_supported, required, too_long
from kybern.machinery.validation import admission, rules
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

# -- aggregation -------------------------------------------------------------------------------------------------


def _check_api_service(service: APIService, errors: Errors) -> None:
    spec = service.spec
    group, version = spec.group or "", spec.version or ""
    wanted = f"{version}.{group}"
    for field in ("name", "generateName"):
        said = getattr(service.metadata, field)
        if said and said != wanted:
            message = f'must be `spec.version+"."+spec.group`: "{wanted}"'
            errors.append(invalid(f"metadata.{field}", said, message))
    if group:
        rules.check_rule(group, "spec.group", names.check_subdomain, errors)
    elif version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    rules.check_rule(version, "spec.version", names.check_label_1035, errors)
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = getattr(spec, field)
        if value <= 0 or value > most:
            errors.append(invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    if spec.service is None:
        if spec.caBundle:
            errors.append(
                invalid("spec.caBundle", f"{len(spec.caBundle)} bytes", "local APIServices may not have a caBundle")
            )
        if spec.insecureSkipTLSVerify:
            message = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid("spec.insecureSkipTLSVerify", True, message))
        return
    rules.check_required(spec.service.namespace, "spec.service.namespace", errors)
    rules.check_required(spec.service.name, "spec.service.name", errors)
    port = spec.service.port
    if port is not None and not 1 <= port <= 65535:
        errors.append(invalid("spec.service.port", port, f"port is not valid: {rules.in_range(1, 65535)}"))
    if spec.insecureSkipTLSVerify and spec.caBundle:
        errors.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))


# -- flow control ------------------------------------------------------------------------------------------------

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def _check_flow_schema(schema: FlowSchema, errors: Errors) -> None:
    spec = schema.spec
    precedence = spec.matchingPrecedence or 0
    if precedence <= 0:
        errors.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
    if precedence > 10000:
        errors.append(invalid("spec.matchingPrecedence", precedence, "must not be greater than 10000"))
    if precedence == 1 and schema.metadata.name != "exempt":
        message = "only the schema named 'exempt' may have matchingPrecedence 1"
        errors.append(invalid("spec.matchingPrecedence", precedence, message))
    _check_fixed(spec, _FIXED_SCHEMAS.get(schema.metadata.name), schema.metadata.name, errors)
    method = spec.distinguisherMethod
    if method is not None and method.type not in ("ByNamespace", "ByUser"):
        shown = codec.to_json(method)
        errors.append(not_supported("spec.distinguisherMethod.type", shown, ("ByNamespace", "ByUser")))
    level = spec.priorityLevelConfiguration.name
    path = "spec.priorityLevelConfiguration.name"
    rules.check_name(level, path, names.check_subdomain, errors, "must reference a priority level")
    for i, rule in enumerate(pausing(spec.rules)):
        where = f"spec.rules[{i}]"
        if not rule.subjects:
            errors.append(required(f"{where}.subjects", "subjects must contain at least one value"))
        for j, subject in enumerate(pausing(rule.subjects)):
            _check_subject(subject, f"{where}.subjects[{j}]", errors)
        if not rule.resourceRules and not rule.nonResourceRules:
            message = "at least one of resourceRules and nonResourceRules has to be non-empty"
            errors.append(required(where, message))
        for j, resource_rule in enumerate(pausing(rule.resourceRules)):
            _check_resource_rule(resource_rule, f"{where}.resourceRules[{j}]", errors)
        for j, other in enumerate(pausing(rule.nonResourceRules)):
            _check_non_resource_rule(other, f"{where}.nonResourceRules[{j}]", errors)


def _check_subject(subject: Subject, path: str, errors: Errors) -> None:
    own = _SUBJECTS.get(subject.kind)
    if own is None:
        errors.append(not_supported(f"{path}.kind", subject.kind, tuple(_SUBJECTS)))
        return
    found = getattr(subject, own)
    where = f"{path}.{own}"
    if found is None:
        errors.append(required(where, f"{own} is required when subject kind is '{subject.kind}'"))
    elif own == "serviceAccount":
        if not found.name:
            errors.append(required(f"{where}.name"))
        elif found.name != "*":
            rules.check_rule(found.name, f"{where}.name", names.check_subdomain, errors)
        if not found.namespace:
            errors.append(required(f"{where}.namespace", "must specify namespace for service account"))
        else:
            rules.check_rule(found.namespace, f"{where}.namespace", names.check_label, errors)
    elif not found.name:
        errors.append(required(f"{where}.name"))
    for kind, field in _SUBJECTS.items():
        if field != own and getattr(subject, field) is not None:
            errors.append(forbidden_field(f"{path}.{field}", f"{field} is forbidden when subject kind is not '{kind}'"))


def _check_list(found: Sequence[str], path: str, what: str, missing: str, errors: Errors) -> bool:
    """False if empty. A star stands alone."""
    if not found:
        errors.append(required(path, missing))
        return False
    if len(found) > 1 and "*" in found:
        errors.append(invalid(path, list(found), f"if '*' is present, must not specify other {what}"))
    return True


def _check_verbs(verbs: Sequence[str], path: str, errors: Errors) -> None:
    if not _check_list(verbs, path, "verbs", "verbs must contain at least one value", errors):
        return
    if "*" not in verbs and any(v not in _VERBS for v in verbs):
        errors.append(not_supported(path, list(verbs), _VERBS))


def _check_resource_rule(rule: Any, path: str, errors: Errors) -> None:
    _check_verbs(rule.verbs, f"{path}.verbs", errors)
    missing = "resource rules must supply at least one api group"
    _check_list(rule.apiGroups, f"{path}.apiGroups", "api groups", missing, errors)
    missing = "resource rules must supply at least one resource"
    _check_list(rule.resources, f"{path}.resources", "resources", missing, errors)
    where = f"{path}.namespaces"
    if not rule.namespaces:
        if not rule.clusterScope:
            message = "resource rules that are not cluster scoped must supply at least one namespace"
            errors.append(required(where, message))
    elif len(rule.namespaces) > 1 and "*" in rule.namespaces:
        errors.append(invalid(where, rule.namespaces, "if '*' is present, must not specify other namespaces"))
    else:
        for i, namespace in enumerate(pausing(rule.namespaces)):
            for message in names.check_label(namespace) if namespace != "*" else ():
                detail = f"each member of this list must be '*' or a DNS-1123 label; {message}"
                errors.append(invalid(f"{where}[{i}]", namespace, detail))


def _check_non_resource_rule(rule: Any, path: str, errors: Errors) -> None:
    _check_verbs(rule.verbs, f"{path}.verbs", errors)
    where = f"{path}.nonResourceURLs"
    missing = "nonResourceURLs must contain at least one value"
    if not _check_list(rule.nonResourceURLs, where, "non-resource URLs", missing, errors):
        return
    if "*" in rule.nonResourceURLs:
        return
    for i, url in enumerate(pausing(rule.nonResourceURLs)):
        for message in _url_faults(url):
            errors.append(invalid(f"{where}[{i}]", url, message))


def _url_faults(url: str) -> list[str]:
    if url in ("*", "/"):
        return []
    if not url:
        return ["must not be empty"]
    if not url.startswith("/"):
        return ["must start with slash"]
    if " " in url:
        return ["must not contain white-space"]
    if "//" in url:
        return ["must not contain double slash"]
    if "*" in url and not re.fullmatch(r"[^*]*/\*", url):
        return ["wildcard can only do suffix matching"]
    return []


def _check_priority_level(level: PriorityLevelConfiguration, errors: Errors) -> None:
    spec, name = level.spec, level.metadata.name
    if (name == "exempt") != (spec.type == "Exempt"):
        message = "must be 'Exempt' if and only if `name` is 'exempt'"
        errors.append(invalid("spec.type", spec.type, message))
    match spec.type:
        case "Exempt":
            if spec.limited is not None:
                errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
            if spec.exempt is not None:
                _check_shares(spec.exempt, "spec.exempt", errors)
        case "Limited":
            if spec.exempt is not None:
                errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
            if spec.limited is None:
                errors.append(required("spec.limited", "must not be empty when type is Limited"))
            else:
                _check_limited(spec.limited, "spec.limited", errors)
        case _:
            errors.append(not_supported("spec.type", spec.type, ("Exempt", "Limited")))
    _check_fixed(spec, _FIXED_LEVELS.get(name), name, errors, but_for="exempt" if name == "exempt" else "")


def _check_fixed(spec: Any, fixed: Any, name: str, errors: Errors, *, but_for: str = "") -> None:
    """What the server itself relies on stays as it is."""
    if fixed is None:
        return
    if but_for:
        fixed = codec.clone(fixed)
        setattr(fixed, but_for, getattr(spec, but_for))
    if spec != fixed:
        exception = f" except the 'spec.{but_for}' field" if but_for else ""
        errors.append(invalid("spec", codec.to_json(spec), f"spec of '{name}'{exception} must equal the fixed value"))


def _everything(*groups: str) -> list[PolicyRulesWithSubjects]:
    subjects = [Subject(kind="Group", group=GroupSubject(name=group)) for group in groups]
    everywhere = ResourcePolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"], clusterScope=True, namespaces=["*"])
    elsewhere = NonResourcePolicyRule(verbs=["*"], nonResourceURLs=["*"])
    return [PolicyRulesWithSubjects(subjects=subjects, resourceRules=[everywhere], nonResourceRules=[elsewhere])]


_FIXED_LEVELS = {
    "exempt": PriorityLevelConfigurationSpec(type="Exempt"),
    "catch-all": PriorityLevelConfigurationSpec(
        type="Limited",
        limited=LimitedPriorityLevelConfiguration(
            nominalConcurrencyShares=5, lendablePercent=0, limitResponse=LimitResponse(type="Reject")
        ),
    ),
}
_FIXED_SCHEMAS = {
    "exempt": FlowSchemaSpec(
        priorityLevelConfiguration=PriorityLevelConfigurationReference(name="exempt"),
        matchingPrecedence=1,
        rules=_everything("system:masters"),
    ),
    "catch-all": FlowSchemaSpec(
        priorityLevelConfiguration=PriorityLevelConfigurationReference(name="catch-all"),
        matchingPrecedence=10000,
        distinguisherMethod=FlowDistinguisherMethod(type="ByUser"),
        rules=_everything("system:unauthenticated", "system:authenticated"),
    ),
}


def _check_shares(shares: Any, path: str, errors: Errors) -> None:
    if (shares.nominalConcurrencyShares or 0) < 0:
        where = f"{path}.nominalConcurrencyShares"
        errors.append(invalid(where, shares.nominalConcurrencyShares, "must be a non-negative integer"))
    rules.check_range(shares.lendablePercent, f"{path}.lendablePercent", 0, 100, errors)


def _check_limited(limited: Any, path: str, errors: Errors) -> None:
    _check_shares(limited, path, errors)
    if limited.borrowingLimitPercent is not None and limited.borrowingLimitPercent < 0:
        where = f"{path}.borrowingLimitPercent"
        errors.append(invalid(where, limited.borrowingLimitPercent, "if specified, must be a non-negative integer"))
    response, path = limited.limitResponse, f"{path}.limitResponse"
    if response is None:
        errors.append(not_supported(f"{path}.type", "", ("Queue", "Reject")))
        return
    queuing, where = response.queuing, f"{path}.queuing"
    match response.type:
        case "Reject":
            if queuing is not None:
                message = "must be nil if limited.limitResponse.type is not Limited"
                errors.append(forbidden_field(where, message))
        case "Queue":
            if queuing is None:
                message = "must not be empty if limited.limitResponse.type is Limited"
                errors.append(required(where, message))
            else:
                _check_queuing(queuing, where, errors)
        case _:
            errors.append(not_supported(f"{path}.type", response.type, ("Queue", "Reject")))


def _check_queuing(queuing: Any, path: str, errors: Errors) -> None:
    for field in ("queueLengthLimit", "queues"):
        value = getattr(queuing, field) or 0
        if value <= 0:
            errors.append(invalid(f"{path}.{field}", value, "must be positive"))
    hand, queues = queuing.handSize or 0, queuing.queues or 0
    if queues > 10_000_000:
        errors.append(invalid(f"{path}.queues", queues, "must not be greater than 10000000"))
    if hand <= 0:
        errors.append(invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > _HASH_BITS:
        message = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        )
        errors.append(invalid(f"{path}.handSize", hand, message))


_HASH_BITS = 60  # a flow is dealt its hand of queues by a hash of that many bits


# -- certificates ------------------------------------------------------------------------------------------------

USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_BAD_SIGNER = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
_LONGEST_DOMAIN = 253
_LONGEST_SIGNER = 253 + 1 + 253 + 1 + 63  # the namespaced name of a resource in a domain


def _check_signing_request(request: CertificateSigningRequest, errors: Errors) -> None:
    spec = request.spec
    data = spec.request or b""
    shown = base64.b64encode(data).decode()
    block = next(pem.parse(data), None)
    if block is None or block.type != "CERTIFICATE REQUEST":
        errors.append(invalid("spec.request", shown, "PEM block type must be CERTIFICATE REQUEST"))
    else:
        fault = _request_fault(block.data)
        if fault:
            errors.append(invalid("spec.request", shown, fault))
    if not spec.usages:
        errors.append(required("spec.usages"))
    seen: set[str] = set()
    for i, usage in enumerate(pausing(spec.usages)):
        if usage not in USAGES:
            errors.append(not_supported(f"spec.usages[{i}]", usage, USAGES))
        if usage in seen:
            errors.append(duplicate(f"spec.usages[{i}]", usage))
        seen.add(usage)
    check_signer(spec.signerName, "spec.signerName", errors)
    if spec.expirationSeconds is not None and spec.expirationSeconds < 600:
        message = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", spec.expirationSeconds, message))


def _request_fault(data: bytes) -> str:
    """What is wrong with a certificate request (DER); "" if nothing is."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        request = x509.load_der_x509_csr(data)
        return "" if request.is_signature_valid else "signature of the request is invalid"
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        return f"asn1: structure error: {error}"


def check_signer(name: str, path: str, errors: Errors) -> None:
    """`example.com/signer`, as requests and bundles name signers."""
    if not name:
        errors.append(required(path))
        return
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        errors.append(invalid(path, name, _BAD_SIGNER))
        return
    if name == "kubernetes.io/legacy-unknown":
        errors.append(invalid(path, name, "the legacy signerName is not allowed via this API version"))
    if len(domain) > _LONGEST_DOMAIN:
        errors.append(too_long(path, _LONGEST_DOMAIN))
    for label in domain.split("."):
        for message in names.check_label(label):
            errors.append(invalid(path, domain, f'validating label "{label}": {message}'))
    if "." not in domain:
        errors.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for label in rest.split("."):
        for message in names.check_subdomain(label):
            errors.append(invalid(path, rest, f'validating label "{label}": {message}'))
    if len(name) > _LONGEST_SIGNER:
        errors.append(too_long(path, _LONGEST_SIGNER))


def _status_of_api_service(service: APIService, old: APIService, errors: Errors) -> None:
    for i, condition in enumerate(pausing(service.status.conditions)):
        if condition.status not in ("True", "False", "Unknown"):
            choices = ("True", "False", "Unknown")
            errors.append(not_supported(f"status.conditions[{i}].status", condition.status, choices))


def _status_of_flows(obj: Any, old: Any, errors: Errors) -> None:
    """Of flow schemas and priority levels."""
    seen: set[str] = set()
    for i, condition in enumerate(pausing(obj.status.conditions)):
        where = f"status.conditions[{i}].type"
        if not condition.type:
            errors.append(required(where))
        elif condition.type in seen:
            errors.append(duplicate(where, condition.type))
        seen.add(condition.type or "")


_FINAL = ("Approved", "Denied", "Failed")


def check_decision(request: CertificateSigningRequest, old: CertificateSigningRequest, errors: Errors) -> None:
    """The conditions that status and approval write: Approved, Denied and Failed are final, and true."""
    path = "status.conditions"
    kinds = {c.type for c in request.status.conditions}
    seen: set[str] = set()
    for i, condition in enumerate(pausing(request.status.conditions)):
        where = f"{path}[{i}]"
        if not condition.type:
            errors.append(required(f"{where}.type"))
        elif condition.type in seen:
            errors.append(duplicate(f"{where}.type", condition.type))
        seen.add(condition.type)
        choices = ("True",) if condition.type in _FINAL else ("True", "False", "Unknown")
        if not condition.status:
            errors.append(required(f"{where}.status"))
        elif condition.status not in choices:
            errors.append(not_supported(f"{where}.status", condition.status, choices))
    if {"Approved", "Denied"} <= kinds:
        errors.append(invalid(path, "Denied", "Approved and Denied conditions are mutually exclusive"))
    for kind in _FINAL:
        if kind not in kinds and any(c.type == kind for c in old.status.conditions):
            errors.append(forbidden_field(path, f'updates may not remove a condition of type "{kind}"'))


def _status_of_request(request: CertificateSigningRequest, old: CertificateSigningRequest, errors: Errors) -> None:
    certificate, before = request.status.certificate, old.status.certificate
    if certificate and certificate != before:
        fault = _chain_fault(certificate)
        if fault:
            errors.append(invalid("status.certificate", "<certificate data>", fault))
    check_decision(request, old, errors)
    decided = {c.type for c in old.status.conditions}
    for kind in ("Approved", "Denied"):  # approval has a subresource of its own
        if kind not in decided and any(c.type == kind for c in request.status.conditions):
            errors.append(forbidden_field("status.conditions", f'updates may not add a condition of type "{kind}"'))
    if before and certificate != before:
        errors.append(forbidden_field("status.certificate", "updates may not modify existing certificate content"))


def _chain_fault(certificate: bytes) -> str:
    """What is wrong with an issued certificate and those it leans on (PEM); "" if nothing is."""
    from cryptography import x509

    blocks = list(pem.parse(certificate))
    for block in blocks:
        if block.type != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block.type}"'
        if block.has_headers:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(block.data)
        except (ValueError, TypeError, x509.InvalidVersion):
            return "x509: malformed certificate"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


RULES: dict[type[Any], Rules] = {
    APIService: Rules(_check_api_service, None, _status_of_api_service),
    FlowSchema: Rules(_check_flow_schema, None, _status_of_flows),
    PriorityLevelConfiguration: Rules(_check_priority_level, None, _status_of_flows),
    CertificateSigningRequest: Rules(_check_signing_request, lambda obj, old, errors: None, _status_of_request),
}

__all__ = ["RULES", "USAGES", "admission"]
