"""Bundles and requests of pods are judged as a v1.36 API server judged them (certificates.jsonl)."""

import datetime
import json
from pathlib import Path

import pytest

from kybern.api import codec, scalars
from kybern.api.certificates_v1beta1 import ClusterTrustBundle, PodCertificateRequest
from kybern.machinery import defaults, pem, validation
from kybern.machinery.validation import pod_certificates

CASES = [json.loads(line) for line in Path(__file__).with_name("certificates.jsonl").read_text().splitlines()]
KINDS = {"ClusterTrustBundle": ClusterTrustBundle, "PodCertificateRequest": PodCertificateRequest}
NOW = scalars.parse_time("2026-11-23T00:00:00Z")


def load(document):
    obj, _ = codec.from_json(KINDS[document["kind"]], document)
    defaults.apply(obj)
    return obj


def judge(case):
    obj = load(case["object"])
    if obj.kind == "PodCertificateRequest":
        obj.metadata.namespace = "default"
    if case["verb"] == "create":
        return validation.validate_create(obj)
    old = load(case["old"])
    if case["verb"] == "update":
        return validation.validate_update(obj, old)
    errors = validation.validate_status_update(obj, old)
    made = case["old"]["metadata"]["creationTimestamp"]  # the server's time, but for seconds
    return errors or pod_certificates.check_time(obj, old, scalars.parse_time(made))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['object']['kind']} {case['verb']} {case['case']}")
def test_the_answer_is_upstreams(case):
    found = [(error.field, error.message) for error in judge(case)]
    # Values of whole structures are shown in the order of upstream's fields: what is said of them counts.
    assert [(field, text.rpartition("}: ")[2]) for field, text in found] == [
        (field, text.rpartition("}: ")[2]) for field, text in case["causes"]
    ]


def test_all_ways_to_ask_are_recorded():
    assert len(CASES) > 150
    assert {(case["verb"], bool(case["causes"])) for case in CASES} == {
        (verb, is_wrong) for verb in ("create", "update", "status") for is_wrong in (False, True)
    }


def test_a_bundle_is_read_in_linear_time():
    text = b"-----BEGIN CERTIFICATE-----\n" * 30_000
    assert list(pem.parse(text)) == []


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        (b"", []),
        (b"-----BEGIN A-----\nAAAA\n-----END A-----", [pem.Block("A", b"\0\0\0")]),
        (b"x\r\n-----BEGIN A-----\r\nAA\r\nAA\r\n-----END A-----\r\ny", [pem.Block("A", b"\0\0\0")]),
        (b"-----BEGIN A-----\nAAAA\n-----END B-----\n", []),
        (b"-----BEGIN A-----\nAA*A\n-----END A-----\n", []),
        (b"-----BEGIN A-----\nk: v\n\nAAAA\n-----END A-----\n", [pem.Block("A", b"\0\0\0", has_headers=True)]),
        (b"-----BEGIN A-----\n-----BEGIN B-----\nAAAA\n-----END B-----\n", [pem.Block("B", b"\0\0\0")]),
        (b"-----BEGIN \xff-----\nAAAA\n-----END \xff-----\n", []),
    ],
)
def test_blocks_are_found_among_other_text(text, blocks):
    assert list(pem.parse(text)) == blocks


def test_a_certificate_must_hold_from_now_on():
    new, old = PodCertificateRequest(), PodCertificateRequest()
    new.status.notBefore = scalars.render_time(NOW)
    for minutes, count in ((0, 0), (4, 0), (-4, 0), (6, 1), (-6, 1)):
        now = NOW + datetime.timedelta(minutes=minutes)
        assert len(pod_certificates.check_time(new, old, now)) == count
