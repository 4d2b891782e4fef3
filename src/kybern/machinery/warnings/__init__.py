"""What is legal and yet not wise, in upstream's words: told to clients in Warning headers. Pure.

Asked by the API server's registry after validation. `of(obj)` is about one object as it is; a writer who only keeps
what was there is not told again, so an update warns of what is new. Source: the answers of a v1.36 API server.

    pods.py      pods, and everything that has a template of them
    kinds.py     the other kinds, by Struct
    versions.py  versions that will not be served for long
"""

from __future__ import annotations

from typing import Any

from kybern.machinery.warnings import kinds

# Told with every write.
_AGAIN = ("spec.trafficDistribution:", "spec.externalIPs ", "spec.SessionAffinity ", "spec.externalName ")


def of(obj: Any) -> list[str]:
    """The warnings about an object."""
    judge = kinds.JUDGES.get(type(obj).__name__)
    return judge(obj) if judge is not None else []


def of_change(obj: Any, old: Any) -> list[str]:
    """The warnings about `obj` that did not hold for `old`."""
    judge = kinds.JUDGES.get(type(obj).__name__)
    if judge is None:
        return []
    found = judge(obj)
    if not found:
        return []
    if type(obj).__name__ == "PersistentVolumeClaim":
        return found
    known = set(judge(old))
    return [text for text in found if text not in known or text.startswith(_AGAIN)]
