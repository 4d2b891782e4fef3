#!/usr/bin/env bash
# Format, lint, types, import contracts, the quick tests: about a minute. All are run, even after one failed.
set -u
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE  # compiled tests are kept for the next run
bin=.venv/bin
failed=0
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" || { failed=1; echo "== $name FAILED"; }
}
step format $bin/ruff format --check --quiet .
step lint $bin/ruff check --quiet .
step imports $bin/lint-imports --cache-dir .cache/import_linter
step types $bin/mypy
step unit $bin/python -m pytest tests/unit tests/conformance -m "not thorough" -n 2
exit $failed
