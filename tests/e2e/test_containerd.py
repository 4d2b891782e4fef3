"""A real container runtime keeps the rules that the fake one keeps.

Wants KYBERN_TEST_CRI, the endpoint of a runtime of its own, and KYBERN_TEST_IMAGE, an image in it that has `sleep`.
"""

import os

import pytest

from kybern.kubelet.cri.client import CriClient
from kybern.testing.cri_suite import CriSuite

ENDPOINT = os.environ.get("KYBERN_TEST_CRI", "")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ENDPOINT, reason="KYBERN_TEST_CRI names no runtime"),
]


class TestContainerd(CriSuite):
    image = os.environ.get("KYBERN_TEST_IMAGE", "registry.k8s.io/e2e-test-images/busybox:1.37.0-1")
    forever = ("sleep", "1000")

    async def open_cri(self):
        return CriClient(ENDPOINT)
