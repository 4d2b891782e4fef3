"""What all tests share: the collector, set as the daemons set it.

Thousands of test modules make a heap that no test can free, and looking through it again and again took a third of the
time of all tests.
"""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
