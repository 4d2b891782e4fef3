"""The tables of patches, put to the real kubectl: it applies patches without a server, as the server would."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import yaml

from kybern.machinery import scheme
from kybern.machinery.merge import json_patch, strategic
from kybern.machinery.merge.errors import PatchError

pytestmark = pytest.mark.thorough

TABLES = pathlib.Path(__file__).parents[1] / "unit/machinery/merge"
KUBECTL = pathlib.Path(sys.executable).with_name("kubectl")

# Where upstream has no answer to give: it panics.
PANICS = {"maps to delete from scalars"}


def kubectl(document: Any, patch: Any, kind: str) -> Any:
    """The patched document, or None if kubectl refuses."""
    with tempfile.TemporaryDirectory() as directory:
        files = [pathlib.Path(directory, name) for name in ("document.json", "patch.json")]
        for file, content in zip(files, (document, patch), strict=True):
            file.write_bytes(orjson.dumps(content))
        done = subprocess.run(
            [KUBECTL, "patch", "--local", "-f", files[0], "--type", kind, "--patch-file", files[1], "-o", "json"],
            capture_output=True,
            check=False,
        )
    assert done.returncode in (0, 1), done.stderr.decode()
    return orjson.loads(done.stdout) if done.returncode == 0 else None


def compare(cases: list[tuple[str, Any, Any, Any]], kind: str) -> None:
    """Each case is (why, document, patch, our result or None)."""
    assert cases
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda case: kubectl(case[1], case[2], kind), cases))
    differences = [(case, answer) for case, answer in zip(cases, answers, strict=True) if answer != case[3]]
    assert not differences


def test_kubectl_applies_strategic_merge_patches_alike() -> None:
    cases = []
    for group in yaml.load((TABLES / "strategic_cases.yaml").read_text(), yaml.CSafeLoader):
        frame = {"apiVersion": group["apiVersion"], "kind": group["kind"], "metadata": {"name": "x"}}
        resource = scheme.kind_of(group["apiVersion"], group["kind"])
        assert resource is not None
        for case in group["cases"]:
            document = frame | group["document"]
            try:
                ours = strategic.apply(document, case["patch"], resource.definition)
            except PatchError:
                ours = None
            if case["why"] not in PANICS:
                cases.append((case["why"], document, case["patch"], ours))
    compare(cases, "strategic")


def test_kubectl_applies_json_patches_alike() -> None:
    table = yaml.load((TABLES / "json_patch_cases.yaml").read_text(), yaml.CSafeLoader)
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": table["document"]}
    cases = []
    for case in table["cases"]:
        patch = under_spec(case["patch"])
        try:
            ours = json_patch.apply(document, patch)
        except PatchError:
            ours = None
        cases.append((str(case["patch"]), document, patch, ours))
    compare(cases, "json")


def under_spec(patch: Any) -> Any:
    if not isinstance(patch, list):
        return patch
    moved = []
    for operation in patch:
        if isinstance(operation, dict):
            paths = {key: operation[key] for key in ("path", "from") if str(operation.get(key, "")).startswith("/")}
            operation = operation | {key: f"/spec{path}" for key, path in paths.items()}
        moved.append(operation)
    return moved
