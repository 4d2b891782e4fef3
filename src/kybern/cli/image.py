"""`kybern image load FILE`: bring images into the cluster without a registry."""

from __future__ import annotations

from pathlib import Path

import click

from kybern.cli import containerd, settings


@click.group()
def image() -> None:
    """Bring images into the cluster's container runtime."""


@image.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def load(files: tuple[Path, ...], data_dir: str) -> None:
    """Import OCI or docker archives (docker save, podman save, buildah) on every node."""
    nodes = settings.require(data_dir).local_nodes()
    for file in files:
        for node in nodes:
            try:
                names = containerd.load_image(node, file)
            except RuntimeError as error:
                raise click.ClickException(f"{file}: {error}") from None
        for name in names:
            click.echo(f"loaded {name}")


@image.command(name="list")
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def list_images(data_dir: str) -> None:
    """The images that pods can use without pulling."""
    listed = containerd.ctr(settings.require(data_dir).local_nodes()[0], "images", "list", "--quiet")
    names = sorted(n for n in listed.stdout.decode().split() if not n.startswith("sha256:"))
    click.echo("\n".join(names))
