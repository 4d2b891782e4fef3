#!/usr/bin/env bash
# Every test: the checks first, then the ones that drive a real cluster.
set -eu
cd "$(dirname "$0")/.."
bash tools/check.sh
.venv/bin/python -m pytest tests/unit tests/conformance -m thorough -n 2
.venv/bin/python -m pytest tests/e2e
