"""`kybern backup FILE` and `kybern restore FILE`: the embedded store, copied while it serves and put back."""

from __future__ import annotations

from pathlib import Path

import click

from kybern.cli import settings


def _store(data_dir: str) -> Path:
    return settings.require(data_dir).data / "store/kybern.db"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def backup(file: Path, data_dir: str) -> None:
    """Copy the cluster's store to FILE; the cluster may go on.

    The keys that Secrets are encrypted with are not in the copy: keep those folders of the data directory too.
    """
    from kybern.storage import backup as backups

    try:
        made = backups.backup(_store(data_dir), file)
    except (OSError, backups.StoreError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{file}: {made.objects} objects at revision {made.revision}, {made.size >> 10} KiB, verified")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def restore(file: Path, data_dir: str) -> None:
    """Put the backup FILE in the place of the cluster's store, which must be down. The old store is kept beside it."""
    from kybern.storage import backup as backups

    try:
        made, aside = backups.restore(file, _store(data_dir))
    except (OSError, backups.StoreError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"restored {made.objects} objects; clients will see revisions from {made.revision} on")
    if aside is not None:
        click.echo(f"the store that was there is now {aside}")
