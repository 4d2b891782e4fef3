"""`kybern version`."""

from __future__ import annotations

import importlib.metadata
import platform

import click


@click.command()
def version() -> None:
    """What this is."""
    click.echo(f"kybern {importlib.metadata.version('kybern')} (Kubernetes v1.36, Python {platform.python_version()})")
