"""`kybern migrate`: move a cluster's state from its file to an etcd, or from an etcd to a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from kybern.cli import settings, supervision
from kybern.cli.settings import Settings
from kybern.process import apiserver
from kybern.process.apiserver import Options
from kybern.storage import migrate as migration
from kybern.storage.interface import StoreError


@click.command()
@click.option("--to-etcd", default="", help="https://host:2379,... of an etcd that holds nothing yet")
@click.option("--to-file", is_flag=True, help="the cluster's own file")
@click.option("--etcd-ca", default="", help="PEM file of the authority of etcd's certificates")
@click.option("--etcd-cert", default="", help="PEM file of the certificate to show to etcd")
@click.option("--etcd-key", default="", help="and of its key")
@click.option("--data-dir", default=settings.DATA_DIRECTORY, show_default=True)
def migrate(to_etcd: str, to_file: bool, etcd_ca: str, etcd_cert: str, etcd_key: str, data_dir: str) -> None:
    """Move the state of a cluster that is down; the next `kybern up` works on it there. The source stays as it is."""
    cluster = settings.require(data_dir)
    if bool(to_etcd) == to_file:
        raise click.ClickException("say where to: --to-etcd URL, or --to-file")
    if supervision.running_pid(cluster) is not None:
        raise click.ClickException("the cluster is running: `kybern down` first")
    if to_etcd == cluster.etcd_servers or (to_file and not cluster.etcd_servers):
        raise click.ClickException("that is where the state is already")
    files = [f and str(Path(f).resolve()) for f in (etcd_ca, etcd_cert, etcd_key)]
    moved = msgspec.structs.replace(
        cluster, etcd_servers=to_etcd, etcd_ca=files[0], etcd_certificate=files[1], etcd_key=files[2]
    )
    try:
        count = asyncio.run(_copy(cluster, moved))
    except (StoreError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except BaseExceptionGroup as group:
        raise click.ClickException(str(group.exceptions[0])) from None
    moved.save()
    click.echo(
        f"{count} objects are now in {to_etcd or 'the file'}, byte for byte; `kybern up` starts the cluster there"
    )


async def _copy(source: Settings, target: Settings) -> int:
    old = await apiserver.open_store(_options(source))
    try:
        new = await apiserver.open_store(_options(target))
        try:
            return await migration.copy(old, new)
        finally:
            await new.close()
    finally:
        await old.close()


def _options(cluster: Settings) -> Options:
    return Options(
        store=str(cluster.data / "store/kybern.db"),
        etcd_servers=cluster.etcd_servers,
        etcd_cafile=cluster.etcd_ca,
        etcd_certfile=cluster.etcd_certificate,
        etcd_keyfile=cluster.etcd_key,
    )
