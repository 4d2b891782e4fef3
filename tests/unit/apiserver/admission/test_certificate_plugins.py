from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kybern.api import codec
from kybern.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
    CertificateSigningRequestSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from kybern.apiserver.request import User
from kybern.testing.gate import Gate

CLIENT = "kubernetes.io/kube-apiserver-client"
JANE = User("jane", groups=("system:authenticated",))


def request(signer: str = CLIENT, pem: bytes = b"") -> CertificateSigningRequest:
    return CertificateSigningRequest(
        metadata=ObjectMeta(name="r"), spec=CertificateSigningRequestSpec(signerName=signer, request=pem)
    )


def pem(*organizations: str) -> bytes:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)


def trusting(verb: str, *signers: str) -> Gate:
    gate = Gate()
    rule = PolicyRule(
        verbs=[verb], apiGroups=["certificates.k8s.io"], resources=["signers"], resourceNames=list(signers)
    )
    gate.objects.put(ClusterRole(metadata=ObjectMeta(name="r"), rules=[rule]))
    ref = RoleRef(apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name="r")
    subject = Subject(kind="User", name="jane")
    gate.objects.put(ClusterRoleBinding(metadata=ObjectMeta(name="b"), roleRef=ref, subjects=[subject]))
    return gate


def approve(gate: Gate, signer: str) -> str:
    return gate.refusal(gate.update, request(signer), request(signer), subresource="approval", user=JANE)


def sign(gate: Gate, signer: str, failed: bool = False) -> str:
    signed = request(signer)
    if failed:
        signed.status.conditions = [CertificateSigningRequestCondition(type="Failed", status="True")]
    else:
        signed.status.certificate = b"-----BEGIN CERTIFICATE-----"
    return gate.refusal(gate.update, signed, request(signer), subresource="status", user=JANE)


def test_who_approves_needs_the_signer() -> None:
    assert approve(trusting("approve", CLIENT), CLIENT) == ""
    assert approve(trusting("sign", CLIENT), CLIENT) == (
        'certificatesigningrequests.certificates.k8s.io "r" is forbidden: user not permitted to approve requests '
        'with signerName "kubernetes.io/kube-apiserver-client"'
    )


def test_a_whole_domain_of_signers_can_be_given() -> None:
    gate = trusting("approve", "example.com/*")
    assert approve(gate, "example.com/a") == ""
    assert approve(gate, "example.org/a")


def test_the_signer_of_the_stored_request_counts() -> None:
    gate = trusting("approve", CLIENT)
    refused = gate.refusal(gate.update, request(CLIENT), request("example.com/a"), subresource="approval", user=JANE)
    assert 'signerName "example.com/a"' in refused


@pytest.mark.parametrize("failed", [False, True])
def test_who_signs_needs_the_signer(failed: bool) -> None:
    assert sign(trusting("sign", CLIENT), CLIENT, failed) == ""
    assert "user not permitted to sign requests" in sign(trusting("approve", CLIENT), CLIENT, failed)


def test_a_status_without_verdict_is_free() -> None:
    unchanged = request()
    Gate().update(codec.clone(unchanged), unchanged, subresource="status", user=JANE)


def test_nobody_becomes_master_by_a_request() -> None:
    gate = Gate()
    assert gate.refusal(gate.create, request(pem=pem("a", "system:masters")), user=JANE) == (
        'certificatesigningrequests.certificates.k8s.io "r" is forbidden: use of kubernetes.io/kube-apiserver-client '
        "signer with system:masters group is not allowed"
    )
    gate.create(request(pem=pem("a")), user=JANE)
    gate.create(request("example.com/a", pem("system:masters")), user=JANE)
    assert "unable to parse" in gate.refusal(gate.create, request(pem=b"garbage"), user=JANE)
