from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kybern.api import codec
from kybern.scheduler.objects import PodView
from kybern.scheduler.pod_info import PodInfo


def info(spec: dict[str, Any], status: dict[str, Any] | None = None) -> PodInfo:
    return PodInfo(codec.decode_pruned(PodView, msgspec.json.encode({"spec": spec, "status": status or {}}))[0])


def box(cpu: str, name: str = "c", **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}


CASES = [
    ("containers add up", {"containers": [box("1"), box("500m")]}, 1500),
    ("the largest init container counts if it is more", {"containers": [box("1")], "initContainers": [box("3")]}, 3000),
    ("a small init container does not", {"containers": [box("1")], "initContainers": [box("500m")]}, 1000),
    (
        "a sidecar runs beside the containers",
        {"containers": [box("1")], "initContainers": [box("2", restartPolicy="Always")]},
        3000,
    ),
    (
        "an init container runs beside the sidecars before it only",
        {
            "containers": [box("1")],
            "initContainers": [box("2", restartPolicy="Always"), box("4"), box("9", restartPolicy="Always")],
        },
        12000,
    ),
    (
        "an init container after a sidecar",
        {"containers": [box("1")], "initContainers": [box("2", restartPolicy="Always"), box("4")]},
        6000,
    ),
    ("overhead comes on top", {"containers": [box("1")], "overhead": {"cpu": "250m"}}, 1250),
    ("the pod's own requests go first", {"containers": [box("1")], "resources": {"requests": {"cpu": "5"}}}, 5000),
]


@pytest.mark.parametrize(("spec", "cpu"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_requests(spec: dict[str, Any], cpu: int) -> None:
    assert info(spec).requests == {"cpu": cpu}


def test_while_a_container_is_resized_the_larger_amount_counts() -> None:
    status = {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "3"}}]}
    assert info({"containers": [box("1")]}, status).requests == {"cpu": 3000}
    assert info({"containers": [box("5")]}, status).requests == {"cpu": 5000}


def test_what_asks_for_nothing_still_counts_in_scores() -> None:
    pod = info({"containers": [{"name": "c"}]})
    assert pod.requests == {}
    assert pod.nonzero == (100, 200 * 1024 * 1024)


def test_explicit_zero_is_zero() -> None:
    assert info({"containers": [box("0")]}).nonzero[0] == 0
