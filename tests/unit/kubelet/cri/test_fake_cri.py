"""The runtime in memory keeps the CRI's rules."""

from kybern.client.clock import RealClock
from kybern.testing.cri_suite import CriSuite
from kybern.testing.fake_cri import FakeCri


class TestFakeCri(CriSuite):
    async def open_cri(self):
        return FakeCri(RealClock())
