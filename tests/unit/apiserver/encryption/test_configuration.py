"""The file of keys: every fault is told by its place, and no message holds a secret."""

from __future__ import annotations

import base64

import pytest

from kybern.apiserver.encryption import configuration

KEY = base64.b64encode(b"\x07" * 32).decode()
GOOD = f"""
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, deployments.apps]
  providers:
  - aesgcm: {{keys: [{{name: key2, secret: {KEY}}}, {{name: key1, secret: {KEY}}}]}}
  - identity: {{}}
- resources: ["*.apps", "*."]
  providers: [identity: {{}}]
- resources: ["*.*"]
  providers: [secretbox: {{keys: [{{name: k, secret: {KEY}}}]}}]
"""


def entry(resources: str = "[secrets]", providers: str = "[identity: {}]") -> str:
    head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
    return f"{head}- resources: {resources}\n  providers: {providers}\n"


def test_the_first_rule_that_names_a_resource_counts() -> None:
    rules = configuration.parse(GOOD.encode())

    def prefix(key: str) -> bytes:
        found = rules.providers_of(key)
        assert found is not None
        return found.writer.prefix

    assert prefix("/registry/secrets/") == prefix("/registry/deployments/") == b"k8s:enc:aesgcm:v1:key2:"
    assert prefix("/registry/statefulsets/") == prefix("/registry/pods/") == b""
    assert prefix("/registry/leases/") == prefix("/registry/example.com/widgets/") == b"k8s:enc:secretbox:v1:k:"


FAULTS = {
    "nothing": "",
    "no mapping": "[]",
    "another kind": "apiVersion: v1\nkind: Secret",
    "an old version": GOOD.replace("io/v1", "io/v0"),
    "no resources": "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: []",
    "an unknown field": GOOD.replace("providers:", "provider:", 1),
    "an empty list of resources": entry(resources="[]"),
    "a bare star": entry(resources='["*"]'),
    "stars around": entry(resources='["*.*.apps"]'),
    "an empty name of a resource": entry(resources='[""]'),
    "no providers": entry(providers="[]"),
    "an empty provider": entry(providers="[{}]"),
    "two in one": entry(providers=f"[{{identity: {{}}, aesgcm: {{keys: [{{name: k, secret: {KEY}}}]}}}}]"),
    "kms": entry(providers="[kms: {apiVersion: v2, name: a, endpoint: 'unix:///x'}]"),
    "no keys": entry(providers="[aesgcm: {keys: []}]"),
    "a key without name": entry(providers=f"[aesgcm: {{keys: [{{secret: {KEY}}}]}}]"),
    "a colon in a name": entry(providers=f"[aesgcm: {{keys: [{{name: 'a:b', secret: {KEY}}}]}}]"),
    "a name twice": entry(providers=f"[aesgcm: {{keys: [{{name: a, secret: {KEY}}}, {{name: a, secret: {KEY}}}]}}]"),
    "no base64": entry(providers="[aesgcm: {keys: [{name: a, secret: '!!'}]}]"),
    "a short key": entry(providers="[aesgcm: {keys: [{name: a, secret: AAAA}]}]"),
    "16 bytes for secretbox": entry(providers=f"[secretbox: {{keys: [{{name: a, secret: {'A' * 22}==}}]}}]"),
    "a number for a secret": entry(providers="[aesgcm: {keys: [{name: a, secret: 7}]}]"),
    "hidden by a wildcard": GOOD.replace('"*.*"', "daemonsets.apps"),
    "the same twice": GOOD.replace('"*.*"', "secrets"),
    "an alias bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: " + "[" + ",".join(["*b"] * 20_000) + "]",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told(fault: str) -> None:
    with pytest.raises(ValueError) as told:
        configuration.parse(FAULTS[fault].encode())
    assert KEY not in str(told.value)
