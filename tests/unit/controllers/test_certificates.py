"""Signing requests on a fake API: what each signer demands, who is approved, what is issued, what is cleared away."""

import base64
import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kybern.api import scalars
from kybern.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
    CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers.certificates import issue, rules
from kybern.controllers.settings import Settings
from kybern.pki import certificates
from kybern.testing import control_plane
from kybern.testing.clock import START

NAMES = [
    "certificatesigningrequest-signing-controller",
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-cleaner-controller",
]
CA = certificates.issue(certificates.Profile("test-ca", is_ca=True), None, START, certificates.generate_key())
SETTINGS = Settings(cluster_signing_cert=CA.certificate_pem, cluster_signing_key=CA.key_pem)
CLIENT_USAGES = ("digital signature", "client auth")
SERVER_USAGES = ("digital signature", "key encipherment", "server auth")
DNS = (x509.DNSName("node.example"), x509.IPAddress(ipaddress.ip_address("10.0.0.1")))


def wish_of(name, organizations=("system:nodes",), alternatives=(), key=None):
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def condition(type_, at=START):
    stamp = scalars.render_time(at)
    return CertificateSigningRequestCondition(
        type=type_, status="True", reason="x", lastUpdateTime=stamp, lastTransitionTime=stamp
    )


def request(signer, pem, usages=CLIENT_USAGES, approved=True, user="someone", **spec):
    return CertificateSigningRequest(
        metadata=ObjectMeta(name="r"),
        spec=CertificateSigningRequestSpec(
            signerName=signer, request=pem, usages=list(usages), username=user, groups=["system:nodes"], **spec
        ),
        status=CertificateSigningRequestStatus(conditions=[condition("Approved")] if approved else []),
    )


def settle(found, *, allow=(), wait=2.0, settings=SETTINGS):
    """The request after a while; `allow`: subresources that authorization grants."""

    async def scenario(plane):
        def review(call):
            asked = call.body["spec"]["resourceAttributes"]
            call.body["status"] = {"allowed": asked["subresource"] in allow}

        plane.api.react("create subjectaccessreviews", review)
        plane.api.put(found)
        await plane.clock.sleep(wait)
        return plane.api.get(CertificateSigningRequest, "", "r")

    return control_plane.run(NAMES, scenario, node=False, settings=settings)


def test_an_approved_client_gets_what_was_granted_and_is_no_authority():
    pem = wish_of("jane", ("devs",), alternatives=DNS)
    left = settle(request(rules.CLIENT, pem, expirationSeconds=3600))
    issued = x509.load_pem_x509_certificate(left.status.certificate)
    issued.verify_directly_issued_by(CA.certificate)
    assert issued.subject == x509.load_pem_x509_csr(pem).subject
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert tuple(issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == DNS
    assert issued.not_valid_after_utc - issued.not_valid_before_utc == datetime.timedelta(seconds=3600) + issue.SKEW


def test_a_certificate_never_outlives_its_authority():
    settings = Settings(
        cluster_signing_cert=CA.certificate_pem, cluster_signing_key=CA.key_pem, cluster_signing_duration=1e9
    )
    left = settle(request(rules.CLIENT, wish_of("jane")), settings=settings)
    issued = x509.load_pem_x509_certificate(left.status.certificate)
    assert issued.not_valid_after_utc == CA.certificate.not_valid_after_utc


@pytest.mark.parametrize(("asked", "given"), [(None, 700.0), (5000, 700.0), (700, 700.0), (1, 600.0)])
def test_a_life_stays_within_its_limits(asked, given):
    assert issue.life(asked, 1000.0) == given


@pytest.mark.parametrize(
    ("signer", "pem", "usages"),
    [
        (rules.CLIENT, wish_of("x"), SERVER_USAGES),
        (rules.CLIENT, wish_of("x"), ("digital signature",)),
        (rules.KUBELET_CLIENT, wish_of("jane"), CLIENT_USAGES),
        (rules.KUBELET_CLIENT, wish_of("system:node:n", ("system:nodes", "system:masters")), CLIENT_USAGES),
        (rules.KUBELET_CLIENT, wish_of("system:node:n", alternatives=DNS), CLIENT_USAGES),
        (rules.KUBELET_CLIENT, wish_of("system:node:n"), ("client auth",)),
        (rules.KUBELET_SERVING, wish_of("system:node:n"), SERVER_USAGES),
        (rules.KUBELET_SERVING, wish_of("system:node:n", alternatives=[x509.RFC822Name("a@b.c")]), SERVER_USAGES),
        (rules.KUBELET_SERVING, wish_of("system:node:n", alternatives=DNS), CLIENT_USAGES),
        (rules.LEGACY, b"no request", CLIENT_USAGES),
        (rules.LEGACY, wish_of("x"), ("juggling",)),
    ],
)
def test_what_a_signer_does_not_sign_is_marked_as_failed(signer, pem, usages):
    left = settle(request(signer, pem, usages))
    assert left.status.certificate is None
    failed = rules.condition(left, "Failed")
    assert failed is not None and failed.reason == "SignerValidationFailure" and failed.message


def test_a_request_signed_with_another_key_is_not_signed():
    good = x509.load_pem_x509_csr(wish_of("x")).public_bytes(serialization.Encoding.DER)
    forged = bytearray(good)
    forged[-1] ^= 1
    body = base64.encodebytes(bytes(forged))
    text = b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(rules.Unfit):
        rules.parse(text)


@pytest.mark.parametrize("verdict", [["Denied"], ["Approved", "Denied"], [], ["Approved", "Failed"]])
def test_nothing_is_signed_without_a_clear_approval(verdict):
    found = request(rules.CLIENT, wish_of("x"), approved=False)
    found.status.conditions = [condition(type_) for type_ in verdict]
    assert settle(found).status.certificate is None


def test_requests_for_other_signers_are_left_alone():
    left = settle(request("example.com/own", wish_of("x")))
    assert left.status.certificate is None and len(left.status.conditions) == 1


def test_a_node_gets_its_own_client_certificate_without_asking_anybody():
    found = request(rules.KUBELET_CLIENT, wish_of("system:node:n"), approved=False, user="system:node:n")
    left = settle(found, allow={"selfnodeclient"})
    assert rules.condition(left, "Approved").reason == "AutoApproved"
    assert left.status.certificate


@pytest.mark.parametrize(("allow", "approved"), [({"nodeclient"}, True), ({"selfnodeclient"}, False), ((), False)])
def test_who_asks_for_another_node_needs_the_right_for_that(allow, approved):
    found = request(rules.KUBELET_CLIENT, wish_of("system:node:n"), approved=False, user="system:bootstrap:x")
    assert rules.is_decided(settle(found, allow=allow)) == approved


def test_serving_certificates_are_never_approved_alone():
    pem = wish_of("system:node:n", alternatives=DNS)
    found = request(rules.KUBELET_SERVING, pem, SERVER_USAGES, approved=False, user="system:node:n")
    assert not rules.is_decided(settle(found, allow={"nodeclient", "selfnodeclient"}))


@pytest.mark.parametrize(
    ("conditions", "signed", "hours"),
    [(["Approved"], True, 1), (["Denied"], False, 1), (["Failed"], False, 1), ([], False, 24)],
)
def test_a_request_goes_when_it_is_over(conditions, signed, hours):
    found = request("example.com/own", wish_of("x"), approved=False)
    found.status.conditions = [condition(type_) for type_ in conditions]
    found.status.certificate = b"unreadable" if signed else None
    assert settle(found, wait=hours * 3600 - 5) is not None
    assert settle(found, wait=hours * 3600 + 5) is None


def test_a_request_goes_when_its_certificate_has_expired():
    found = request(rules.CLIENT, wish_of("x"), expirationSeconds=600)
    assert settle(found, wait=590) is not None
    assert settle(found, wait=610) is None


def test_reviews_are_asked_with_all_that_is_known_of_the_user():
    asked = []

    async def scenario(plane):
        def review(call):
            asked.append(call.body["spec"])

        plane.api.react("create subjectaccessreviews", review)
        plane.api.put(
            request(rules.KUBELET_CLIENT, wish_of("system:node:n"), approved=False, uid="7", extra={"k": ["v"]})
        )
        await plane.clock.sleep(1)

    control_plane.run(NAMES, scenario, node=False, settings=SETTINGS)
    assert (asked[0]["user"], asked[0]["uid"], asked[0]["groups"], asked[0]["extra"]) == (
        "someone", "7", ["system:nodes"], {"k": ["v"]},
    )  # fmt: skip
