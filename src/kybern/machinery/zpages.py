"""/statusz and /flagz: what a component is and how it was told to run, as text for people or as an object. Pure.

Served by apiserver/paths and process/health. The form is a v1.36 component's, which promises not to keep it.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterable, Mapping

from kybern.api import scalars

GROUP = "config.k8s.io"
CONTENT_TYPE = "text/plain; charset=utf-8"
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)


def render_status(
    component: str, version: str, started: datetime.datetime, now: datetime.datetime, paths: Iterable[str]
) -> str:
    """/statusz. `version` is that of the API: "1.36.0"."""
    minutes, seconds = divmod(max(0, int((now - started).total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    rows = (
        ("Started", started.strftime("%a %b %d %H:%M:%S UTC %Y")),
        ("Up", f"{hours} hr {minutes:02d} min {seconds:02d} sec"),
        ("Python version", platform.python_version()),
        ("Binary version", version),
        ("Emulation version", ".".join(version.split(".")[:2])),
        ("Paths", " ".join(sorted(paths))),
    )
    return "\n".join([f"\n{component} statusz", _WARNING, "", *(f"{name}: {value}" for name, value in rows), ""])


def status_document(
    component: str, version: str, started: datetime.datetime, now: datetime.datetime, paths: Iterable[str], told: str
) -> dict[str, object]:
    """/statusz as an object of config.k8s.io; `told` is its version there."""
    return {
        "kind": "Statusz",
        "apiVersion": f"{GROUP}/{told}",
        "metadata": {"name": component},
        "startTime": scalars.render_time(started),
        "uptimeSeconds": max(0, int((now - started).total_seconds())),
        "goVersion": f"python{platform.python_version()}",
        "binaryVersion": version,
        "emulationVersion": ".".join(version.split(".")[:2]),
        "paths": sorted(paths),
    }


def flags_document(component: str, flags: Mapping[str, object], told: str) -> dict[str, object]:
    """/flagz as an object of config.k8s.io."""
    shown = {name.replace("_", "-"): _shown(value) for name, value in sorted(flags.items())}
    return {"kind": "Flagz", "apiVersion": f"{GROUP}/{told}", "metadata": {"name": component}, "flags": shown}


def render_flags(component: str, flags: Mapping[str, object]) -> str:
    """/flagz. Names as in code; of what holds a secret only the file is ever a flag."""
    lines = [f"{name.replace('_', '-')}={_shown(value)}" for name, value in sorted(flags.items())]
    return "\n".join([f"\n{component} flagz", _WARNING, "", *lines, ""])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(str, value))}]"
    return "".join(c if c.isprintable() else "?" for c in str(value))
