"""Image references, and the pull policy they imply."""

from __future__ import annotations

import pytest

from kybern.machinery import images

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "", ""),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", ""),
        ("user/app", "docker.io", "user/app", "", ""),
        ("localhost/app:x", "localhost", "app", "x", ""),
        ("localhost:5000/a/b", "localhost:5000", "a/b", "", ""),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io", "pause", "3.10", ""),
        (f"r.io/a@{DIGEST}", "r.io", "a", "", DIGEST),
        (f"r.io/a:v1@{DIGEST}", "r.io", "a", "v1", DIGEST),
        ("[::1]:5000/x", "[::1]:5000", "x", "", ""),
        ("UPPER/x", "UPPER", "x", "", ""),
    ],
)
def test_references_have_parts(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert images.parse(text) == images.Reference(domain, path, tag, digest)


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a//b", ":latest", "https://a/b", "x@sha256:abc", "x:" + "t" * 129, "a" * 64, "x" * 300, "é"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        images.parse(text)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        (f"a:latest@{DIGEST}", "Always"),
        ("localhost:5000/a", "Always"),
        ("a:v1", "IfNotPresent"),
        (f"a@{DIGEST}", "IfNotPresent"),
        ("UPPER:latest", "IfNotPresent"),
    ],
)
def test_only_latest_is_always_pulled(text: str, policy: str) -> None:
    assert images.default_pull_policy(text) == policy
