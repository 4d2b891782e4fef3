"""`kybern policy test` and `kybern policy list`: Python policies against manifests, without a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SUFFIXES = (".yaml", ".yml", ".json")


@click.group()
def policy() -> None:
    """Admission policies as Python functions (docs/policies.md)."""


@policy.command("list")
@click.option("--policies", "folder", type=_FOLDER, required=True, help="Folder of policy files.")
def list_policies(folder: Path) -> None:
    """Say which policies a folder holds."""
    for entry in _load(folder).entries:
        kinds = ", ".join(t.resource + (f"/{t.subresource}" if t.subresource else "") for t in entry.targets)
        verb = "changes" if entry.mayChange else "judges"
        click.echo(f"{entry.name}  {verb} {kinds} on {', '.join(entry.operations)}  ({entry.place})")


@policy.command()
@click.argument("manifests", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=Path))
@click.option("--policies", "folder", type=_FOLDER, required=True, help="Folder of policy files.")
@click.option("--operation", type=click.Choice(["CREATE", "UPDATE", "DELETE"]), default="CREATE", show_default=True)
@click.option("--user", default="kubernetes-admin", show_default=True, help="Who writes.")
@click.option("--group", "groups", multiple=True, default=["system:authenticated"], help="A group of the user.")
@click.option("--namespace", default="default", show_default=True, help="For objects that name none.")
@click.option("--show", is_flag=True, help="Print each object as it would be admitted, as YAML.")
def test(
    manifests: Sequence[Path],
    folder: Path,
    operation: str,
    user: str,
    groups: Sequence[str],
    namespace: str,
    show: bool,
) -> None:
    """Run policies on MANIFESTS: files of YAML or JSON, folders of them, or - for standard input.

    Ends with 1 if a policy refuses an object or fails.
    """
    from kybern.policies import offline
    from kybern.policies.protocol import Who

    policies = _load(folder)
    try:
        found = offline.read_manifests(_files(manifests))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    verdicts = offline.judge(policies, found, operation, Who(user, groups=tuple(groups)), namespace)
    for verdict in verdicts:
        _tell(verdict)
        if show and verdict.object is not None:
            click.echo(_yaml(verdict.object))
    failed = sum(not verdict.passed for verdict in verdicts)
    click.echo(f"{len(verdicts)} objects, {len(policies.entries)} policies: {failed or 'none'} refused")
    if failed:
        sys.exit(1)


def _tell(verdict: Any) -> None:
    mark = "ok     " if verdict.passed else "REFUSED"
    note = f" (changed by {', '.join(verdict.changed_by)})" if verdict.changed_by else ""
    unasked = "" if verdict.asked or verdict.failures else " (no policy asked)"
    click.echo(f"{mark} {verdict.manifest.shown}{note}{unasked}")
    for label, texts in (("", verdict.refusals), ("", verdict.failures), ("warning: ", verdict.warnings)):
        for text in texts:
            click.echo(f"        {label}{text}")


def _load(folder: Path) -> Any:
    from kybern.policies import offline

    try:
        return offline.Inline(folder)
    except offline.PolicyError as error:
        raise click.ClickException(str(error)) from None


def _files(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """(name, bytes) of each manifest file. Raises OSError."""
    found: list[tuple[str, bytes]] = []
    for path in paths:
        if str(path) == "-":
            found.append(("standard input", sys.stdin.buffer.read()))
        elif path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            found += [(str(p), p.read_bytes()) for p in inside]
        else:
            found.append((str(path), path.read_bytes()))
    return found


def _yaml(value: Any) -> str:
    import yaml

    return "---\n" + str(yaml.safe_dump(value, sort_keys=False)).rstrip()
