#!/usr/bin/env bash
# Make .venv with everything in pyproject.toml. `$1` is the Python to use.
set -eu
python=$1
venv=.venv
"$python" - <<'PY'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Kybern needs Python 3.11 or later, found {sys.version.split()[0]}")
PY
# Debian keeps ensurepip in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing the Debian package python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
fi
[ -x $venv/bin/python ] || "$python" -m venv $venv
echo "installing Kybern into $venv ..."
$venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
mkdir -p bin
ln -sf ../$venv/bin/kybern bin/kybern
ln -sf ../$venv/bin/kubectl bin/kubectl
touch $venv/.ready
