"""Requests that schemathesis makes of the server's own OpenAPI documents."""

from __future__ import annotations

import itertools
import json
import random
import urllib.parse
import warnings
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException

from tools.fuzz.raw_cases import Case

_METHODS = ("get", "post", "put", "patch", "delete")


def generate(document: dict[str, Any], seed: int, count: int) -> Iterator[Case]:
    """At most `count` requests over the operations of one group-version, in an order of the seed's."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [r.ok() for r in schema.get_all_operations() if hasattr(r, "ok")]
    random.Random(seed).shuffle(operations)
    each = max(1, count // max(1, len(operations)))
    cases = itertools.chain.from_iterable(_of_operation(o, seed, each) for o in operations)
    yield from itertools.islice(cases, count)


def _of_operation(operation: Any, seed: int, count: int) -> list[Case]:
    found: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def collect(case: Any) -> None:
        found.append(_render(case))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            collect()
        except HypothesisException:
            pass  # what the strategy cannot make is not tried
    return found


def _render(case: Any) -> Case:
    query = urllib.parse.urlencode(case.query or {}, doseq=True, errors="surrogatepass")
    path = urllib.parse.quote(case.formatted_path, safe="/%", errors="surrogatepass") + (f"?{query}" if query else "")
    body = b""
    headers = ["Authorization: Bearer admin"]
    if case.body is not None and not isinstance(case.body, type(schemathesis.core.NOT_SET)):
        body = json.dumps(case.body, default=str).encode("utf-8", "surrogatepass")
        headers += [f"Content-Type: {case.media_type or 'application/json'}", f"Content-Length: {len(body)}"]
    lines = [f"{case.method.upper()} {path} HTTP/1.1", "Host: localhost", *headers]
    return Case("\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body, is_whole=True)
