"""Answers in protobuf: the bytes a v1.36 API server sends, and what of ours comes back as it was."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kybern.api import protobuf, protobuf_encode
from kybern.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingAdmissionPolicy
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import PersistentVolume, Pod, Secret, Service
from kybern.api.networking_v1 import Ingress

# What a v1.36 API server answers for its own service.
SERVICE = base64.b64decode(
    "azhzAAoNCgJ2MRIHU2VydmljZRLoBArxAwoKa3ViZXJuZXRlcxIAGgdkZWZhdWx0IgAqJGI0ZjZhM2NkLWEzOTAtNGY1MC05YWM4LWRjN2VlMz"
    "RiMjA1ZjIDMjA2OABCCAjPtJHYBhAAWhYKCWNvbXBvbmVudBIJYXBpc2VydmVyWhYKCHByb3ZpZGVyEgprdWJlcm5ldGVzigHtAgoOa3ViZS1h"
    "cGlzZXJ2ZXISBlVwZGF0ZRoCdjEiCAjPtJHYBhAAMghGaWVsZHNWMTq4Agq1AnsiZjptZXRhZGF0YSI6eyJmOmxhYmVscyI6eyIuIjp7fSwiZj"
    "pjb21wb25lbnQiOnt9LCJmOnByb3ZpZGVyIjp7fX19LCJmOnNwZWMiOnsiZjpjbHVzdGVySVAiOnt9LCJmOmludGVybmFsVHJhZmZpY1BvbGlj"
    "eSI6e30sImY6aXBGYW1pbHlQb2xpY3kiOnt9LCJmOnBvcnRzIjp7Ii4iOnt9LCJrOntcInBvcnRcIjo0NDMsXCJwcm90b2NvbFwiOlwiVENQXC"
    "J9Ijp7Ii4iOnt9LCJmOm5hbWUiOnt9LCJmOnBvcnQiOnt9LCJmOnByb3RvY29sIjp7fSwiZjp0YXJnZXRQb3J0Ijp7fX19LCJmOnNlc3Npb25B"
    "ZmZpbml0eSI6e30sImY6dHlwZSI6e319fUIAEm4KGwoFaHR0cHMSA1RDUBi7AyIICAAQmKcBGgAoABoJMTAuOTcuMC4xIglDbHVzdGVySVA6BE"
    "5vbmVCAFIAWgBgAGgAigELU2luZ2xlU3RhY2uSAQkxMC45Ny4wLjGaAQRJUHY0sgEHQ2x1c3RlchoCCgAaACIA"
)


def round_trip(kind: type[Any], value: dict[str, Any]) -> Any:
    content = protobuf_encode.content(protobuf_encode.message_of(kind), value)
    return protobuf.to_json(kind, content)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (
            Pod,
            {
                "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b", "c": ""}},
                "spec": {
                    "volumes": [
                        {"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
                        {"name": "d", "downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "m"}}]}},
                    ],
                    "containers": [
                        {
                            "name": "c",
                            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                            "livenessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 3},
                            "readinessProbe": {"tcpSocket": {"port": 80}},
                            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                            "securityContext": {"runAsUser": 0, "privileged": False},
                        }
                    ],
                    "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}],
                    "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"key": "k", "tolerationSeconds": -1}],
                },
            },
        ),
        (Secret, {"metadata": {"name": "s"}, "data": {"b": "AAEC", "a": ""}}),
        (
            Lease,
            {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-02T03:04:05.678901Z", "holderIdentity": ""}},
        ),
        (
            CustomResourceDefinition,
            {
                "metadata": {"name": "x"},
                "spec": {
                    "group": "g",
                    "versions": [
                        {
                            "name": "v1",
                            "schema": {
                                "openAPIV3Schema": {
                                    "type": "object",
                                    "properties": {
                                        "a": {"type": "array", "items": {"type": "string"}, "default": ["x"]},
                                        "b": {"additionalProperties": {"type": "number", "maximum": 1.5}},
                                        "c": {"additionalProperties": True, "enum": [1, "a", {"b": None}]},
                                        "d": {"x-kubernetes-validations": [{"rule": "self > 1"}], "minLength": 0},
                                    },
                                }
                            },
                        }
                    ],
                },
            },
        ),
        (
            MutatingWebhookConfiguration,
            {
                "metadata": {"name": "w"},
                "webhooks": [
                    {
                        "name": "h",
                        "clientConfig": {"caBundle": "AAEC", "service": {"name": "s", "port": 443}},
                        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "resources": ["pods"], "scope": "*"}],
                    }
                ],
            },
        ),
        (
            ValidatingAdmissionPolicy,
            {
                "metadata": {"name": "p"},
                "spec": {
                    "validations": [{"expression": "true", "message": "m"}],
                    "matchConstraints": {"resourceRules": [{"resourceNames": ["x"], "operations": ["*"]}]},
                },
            },
        ),
        (
            CertificateSigningRequest,
            {"metadata": {"name": "c"}, "spec": {"request": "AAEC", "extra": {"k": ["v", "w"], "l": []}}},
        ),
        (
            PersistentVolume,
            {"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "csi": {"driver": "d"}}},
        ),
        (Ingress, {"metadata": {"name": "i"}, "spec": {"rules": [{"host": "h", "http": {"paths": [{"path": "/"}]}}]}}),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)
def test_what_is_encoded_is_decoded_to_the_same(kind: type[Any], value: dict[str, Any]) -> None:
    assert round_trip(kind, value) == value


def test_the_service_of_a_real_server_reads_the_same() -> None:
    envelope = protobuf.decode_envelope(SERVICE)
    theirs = protobuf.to_json(Service, envelope.raw)
    ours = protobuf_encode.content("core_v1.Service", theirs)
    assert protobuf.to_json(Service, ours) == theirs
    document = protobuf_encode.envelope("v1", "Service", ours)
    assert document.startswith(SERVICE[:17])
    assert document.endswith(b"\x1a\x00\x22\x00")


def test_numbers_are_varints_of_64_bits() -> None:
    wanted = {"metadata": {"name": "x", "generation": 300, "deletionGracePeriodSeconds": -1}}
    assert round_trip(Pod, wanted) == wanted
    content = protobuf_encode.content("meta_v1.ObjectMeta", {"generation": 300, "deletionGracePeriodSeconds": -1})
    assert content == b"\x38\xac\x02" + b"\x50" + b"\xff" * 9 + b"\x01"


def test_what_the_table_does_not_know_is_left_out() -> None:
    assert protobuf_encode.content("core_v1.ConfigMap", {"kind": "ConfigMap", "nope": 1, "metadata": None}) == b""


def test_watch_events_are_told_with_their_length() -> None:
    event = protobuf_encode.watch_event("ADDED", b"k8s\x00...")
    assert event == b"\x00\x00\x00\x12" + b"\x0a\x05ADDED" + b"\x12\x09\x0a\x07k8s\x00..."
