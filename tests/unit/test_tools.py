"""Tools and benchmarks that no test runs whole: all of them can at least be started."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name in ("tools", "bench")
    for path in (ROOT / name).rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_it_can_be_imported_from_the_root(module: str) -> None:
    importlib.import_module(module)
