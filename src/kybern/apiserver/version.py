"""The /version document, in the spelling of kube-apiserver's."""

from __future__ import annotations

import platform

import orjson

# The API level that is served; what follows the + says whose server it is.
GIT_VERSION = "v1.36.0+kybern"


def build() -> dict[str, str]:
    """What /version says, by its names there."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{machine}",
    }


def render() -> bytes:
    return orjson.dumps(build())
