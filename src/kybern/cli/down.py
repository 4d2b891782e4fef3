"""`kybern down`: stop the daemons. Containers and state stay, and `up` finds them again."""

from __future__ import annotations

import click

from kybern.cli import settings, supervision


@click.command()
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def down(data_dir: str) -> None:
    """Stop the daemons; containers go on, and `kybern up` takes them over again."""
    cluster = settings.require(data_dir)
    try:
        stopped = supervision.stop(cluster)
    except TimeoutError as error:
        raise click.ClickException(str(error)) from None
    click.echo("the cluster is down" if stopped else "the cluster was not running")
