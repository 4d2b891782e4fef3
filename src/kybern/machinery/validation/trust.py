"""ClusterTrustBundles: which authorities a signer is trusted with.

Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

from typing import Any

from kybern.api import certificates_v1alpha1, certificates_v1beta1
from kybern.machinery import names, pem
from kybern.machinery.status import FieldError, invalid, too_long
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors, Rules
from kybern.machinery.validation.server import check_signer

_LARGEST = 1 << 20
_WHERE = "spec.trustBundle"


def check_name(name: str, signer: str) -> tuple[str, ...]:
    """A bundle of a signer is named after it, so that nobody else's can be taken for one of it."""
    if not signer:
        if ":" in name:
            return ('ClusterTrustBundle without signer name must not have ":" in its name',)
        return names.check_subdomain(name)
    prefix = signer.replace("/", ":") + ":"
    if not name.startswith(prefix):
        return (f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}",)
    return names.check_subdomain(name[len(prefix) :])


def _omitted(field: str, detail: str) -> FieldError:
    return invalid(field, "<value omitted>", detail)


def _check(bundle: Any, errors: Errors) -> None:
    meta, signer = bundle.metadata, bundle.spec.signerName or ""
    if meta.generateName:
        for fault in check_name(names.mask_trailing_dash(meta.generateName), signer):
            errors.append(invalid("metadata.generateName", meta.generateName, fault))
    for fault in check_name(meta.name, signer) if meta.name else ():
        errors.append(invalid("metadata.name", meta.name, fault))
    if signer:
        check_signer(signer, "spec.signerName", errors)
    check_anchors(bundle.spec.trustBundle, errors)


def check_anchors(text: str, errors: Errors) -> None:
    """PEM certificates of authorities, at least one, none twice."""
    data = text.encode()
    if len(data) > _LARGEST:
        errors.append(too_long(_WHERE, _LARGEST))
        return
    places: dict[bytes, list[int]] = {}
    count = 0
    for i, block in enumerate(pem.parse(data)):
        count += 1
        fault = _fault(block)
        if fault:
            errors.append(_omitted(_WHERE, f"entry {i} {fault}"))
            continue
        places.setdefault(block.data, []).append(i)
    if not count:
        errors.append(_omitted(_WHERE, "at least one trust anchor must be provided"))
    for found in places.values():
        if len(found) > 1:
            indices = " ".join(map(str, found))
            errors.append(_omitted(_WHERE, f"duplicate trust anchor (indices [{indices}])"))


def _fault(block: pem.Block) -> str:
    from cryptography import x509

    if block.type != "CERTIFICATE":
        return f"has bad block type: {block.type}"
    if block.has_headers:
        return "has PEM block headers"
    try:
        certificate = x509.load_der_x509_certificate(block.data)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return "does not have the CA bit set"
    except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension):
        return "does not parse as X.509"
    return "" if constraints.value.ca else "does not have the CA bit set"


def _check_update(bundle: Any, old: Any, errors: Errors) -> None:
    _check(bundle, errors)
    new, before = bundle.spec.signerName or "", old.spec.signerName or ""
    if new != before:
        errors.append(invalid("spec.signerName", new, rules.IMMUTABLE))


RULES: dict[type[Any], Rules] = {
    certificates_v1beta1.ClusterTrustBundle: Rules(_check, _check_update),
    certificates_v1alpha1.ClusterTrustBundle: Rules(_check, _check_update),
}
