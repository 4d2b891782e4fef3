"""What is a finding: a 500, an answer that does not come, a server that has ended, a request that costs too much."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tools.fuzz.client import Answer

# Seconds of processor time for one request, on a machine with work to do besides.
MOST = 3.0
# Answers that say that something else is missing: a kubelet, a webhook, a quota of time.
_QUOTED = re.compile(r'"[^"]*"')
_ELSEWHERE = frozenset({501, 502, 503, 505})
# What a v1.36 API server answers in the same way, with the test that says so.
_UPSTREAMS = {
    500: (
        b"failed calling webhook",  # that an earlier request has configured: tests/unit/apiserver/hostile/test_abuse.py
        b"no preferred addresses found",  # of a node without any: tests/unit/apiserver/proxy/test_targets.py
    ),
    504: (b"Too large resource version",),  # of the future: tests/unit/apiserver/handlers/test_list.py
}


def judge(answer: Answer | None, seconds: float, ended: int | None) -> str:
    """ "" where all is well."""
    if answer is None or ended is not None:
        return f"the server has ended ({ended})"
    if answer.status == -1:
        return "no answer"
    if any(text in answer.body for text in _UPSTREAMS.get(answer.status, ())):
        return ""
    if answer.status >= 500 and answer.status not in _ELSEWHERE:
        return f"{answer.status}: {answer.body[:300]!r}"
    if seconds > MOST:
        return f"took {seconds:.1f} s of processor time"
    if answer.status >= 400 and answer.body and b'"kind":"Status"' not in answer.body and not _is_other(answer):
        return f"{answer.status} without a Status: {answer.body[:200]!r}"
    return ""


def told(answer: Answer) -> str:
    """What an answer says, less what it says it of: alike for all of one kind."""
    try:
        message = str(json.loads(answer.body)["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.body[:200].decode("utf-8", "replace")
    return _QUOTED.sub('"..."', message)[:160]


def _is_other(answer: Answer) -> bool:
    """Health checks and answers in YAML or protobuf have other forms."""
    return b"application/json" not in answer.head.lower()


def processor_seconds(pid: int) -> float:
    """What a process has used so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
