"""Completion indexes of an Indexed job: as text in its status ("0,2-4"), and in its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api.batch_v1 import Job
from kybern.api.core_v1 import Pod

ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


def is_indexed(job: Job) -> bool:
    return job.spec.completionMode == "Indexed"


def parse(text: str, limit: int) -> set[int]:
    """The numbers below `limit` in "0,2-4". What does not parse is left out, as upstream does."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            continue
        start, end = int(first), int(last) if dash else int(first)
        found.update(range(start, min(end, limit - 1) + 1))
    return {number for number in found if number < limit}


def render(numbers: Iterable[int]) -> str:
    """The shortest text; ranges are of three or more, or of two: "0,1" and "3-5"."""
    parts: list[str] = []
    ordered = sorted(set(numbers))
    position = 0
    while position < len(ordered):
        end = position
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        first, last = ordered[position], ordered[end]
        if first == last:
            parts.append(str(first))
        elif last == first + 1:
            parts += [str(first), str(last)]
        else:
            parts.append(f"{first}-{last}")
        position = end + 1
    return ",".join(parts)


def index_of(pod: Pod) -> int | None:
    """The pod's index; None if it has none that is a number."""
    text = pod.metadata.annotations.get(ANNOTATION, "")
    return int(text) if _is_number(text) else None


def valid_index(pod: Pod, job: Job) -> int | None:
    index = index_of(pod)
    return index if index is not None and index < (job.spec.completions or 0) else None


def failures_of(pod: Pod) -> tuple[int, int]:
    """(failures, ignored failures) of its index before this pod."""
    counts = (pod.metadata.annotations.get(name, "0") for name in (FAILURES, IGNORED_FAILURES))
    failures, ignored = (int(text) if _is_number(text) else 0 for text in counts)
    return failures, ignored


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 11
