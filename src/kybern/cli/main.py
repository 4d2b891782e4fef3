"""The `kybern` command: commands are imported when they are used, so that help and version are quick."""

from __future__ import annotations

import importlib
import sys

import click

from kybern.cli import component

# structlog takes rich along where it is installed (by a development tool, say): 10 MiB a process, and none of our
# output needs it.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

_COMMANDS = {
    "up": ("kybern.cli.up", "up", "Start a cluster on this machine (or bring it back)."),
    "down": ("kybern.cli.down", "down", "Stop the daemons; containers and state stay."),
    "reset": ("kybern.cli.reset", "reset", "Remove the cluster and everything it left on this machine."),
    "status": ("kybern.cli.status", "status", "How the cluster is."),
    "doctor": ("kybern.cli.doctor", "doctor", "Check that this machine can run a cluster."),
    "node": ("kybern.cli.node", "node", "The nodes of this machine: list, stop, start."),
    "image": ("kybern.cli.image", "image", "Bring images into the cluster's container runtime."),
    "backup": ("kybern.cli.backup", "backup", "Copy the cluster's store to a file, while it serves."),
    "restore": ("kybern.cli.backup", "restore", "Put a backup in the place of the store."),
    "migrate": ("kybern.cli.migrate", "migrate", "Move the state between the cluster's file and an etcd."),
    "policy": ("kybern.cli.policy", "policy", "Try admission policies in Python on manifests."),
    "version": ("kybern.cli.version", "version", "What this is."),
}


class _Lazy(click.Group):
    """Looks its commands up by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *component.COMPONENTS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            module, attribute, _ = _COMMANDS[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return component.command(cmd_name) if cmd_name in component.COMPONENTS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])
        with formatter.section("Components (each with --help)"):
            formatter.write_dl([(name, f"Run the {name} in the foreground.") for name in component.COMPONENTS])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Kybern: Kubernetes, in Python."""


if __name__ == "__main__":
    main()
