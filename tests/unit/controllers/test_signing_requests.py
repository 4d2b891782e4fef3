"""Approved requests are signed, or refused, as a v1.36 controller manager did (signing_requests.jsonl)."""

import json
from pathlib import Path

import pytest
from cryptography import x509

from kybern.api import codec
from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.controllers.settings import Settings
from kybern.pki import certificates
from kybern.testing import control_plane
from kybern.testing.clock import START

CASES = [json.loads(line) for line in Path(__file__).with_name("signing_requests.jsonl").read_text().splitlines()]
CA = certificates.issue(certificates.Profile("test-ca", is_ca=True), None, START, certificates.generate_key())
SETTINGS = Settings(cluster_signing_cert=CA.certificate_pem, cluster_signing_key=CA.key_pem)
USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign",
)  # fmt: skip


def settle(spec):
    approved = {
        "type": "Approved",
        "status": "True",
        "reason": "x",
        "message": "y",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    document = {"metadata": {"name": "r"}, "spec": spec, "status": {"conditions": [approved]}}

    async def scenario(plane):
        plane.api.put(codec.from_json(CertificateSigningRequest, document)[0])
        await plane.clock.sleep(2)
        (found,) = plane.api.list(CertificateSigningRequest)
        return found.status

    names = ["certificatesigningrequest-signing-controller"]
    return control_plane.run(names, scenario, node=False, settings=SETTINGS)


def describe(pem):
    """What the recording tells of a certificate."""
    found = x509.load_pem_x509_certificate(pem)
    lifetime = found.not_valid_after_utc - found.not_valid_before_utc
    told = {
        "subject": sorted([a.oid.dotted_string, a.value] for a in found.subject),
        "seconds": int(lifetime.total_seconds()),
    }
    for extension in found.extensions:
        match extension.value:
            case x509.KeyUsage() as value:
                told["ku"] = [use for use in USES if getattr(value, use)]
            case x509.ExtendedKeyUsage() as value:
                told["eku"] = [oid.dotted_string for oid in value]
            case x509.BasicConstraints() as value:
                told["ca"] = value.ca
            case x509.SubjectAlternativeName() as value:
                told["san"] = sorted(str(name.value) for name in value)
    return told


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_request_ends_as_with_upstream(case):
    status = settle(case["spec"])
    failed = [[c.type, c.reason, c.message] for c in status.conditions if c.type != "Approved"]
    assert failed == case["failed"]
    wanted = case["certificate"]
    if wanted is None:
        assert not status.certificate
        return
    wanted = {key: sorted(value) if key == "san" else value for key, value in wanted.items() if key != "other"}
    assert describe(status.certificate) == wanted
