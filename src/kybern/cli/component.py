"""A command for each component, made from its Options dataclass: a field is a flag of the same name.

Used by main. The component's module is imported only when its command runs (or shows its help).
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import importlib
import signal
import sys
import types
import typing
from pathlib import Path
from typing import Any

import click

COMPONENTS = {
    "apiserver": "kybern.process.apiserver",
    "controller-manager": "kybern.process.controller_manager",
    "scheduler": "kybern.process.scheduler",
    "kubelet": "kybern.process.kubelet",
    "proxy": "kybern.process.proxy",
    "dns": "kybern.process.dns",
    "simulated-nodes": "kybern.process.simulated_nodes",
}


def command(name: str) -> click.Command:
    """The click command of a component."""
    module = _import(COMPONENTS[name])
    options = module.Options
    hints = typing.get_type_hints(options)
    parameters: list[click.Parameter] = [
        click.Option(["--log-level"], default="info", show_default=True, help="debug, info, warning or error"),
        click.Option(
            ["--log-format"], type=click.Choice(["json", "console"]), default="json", show_default=True, help="of logs"
        ),
    ]
    parameters += [_option(field, hints[field.name]) for field in dataclasses.fields(options)]

    def callback(log_level: str, log_format: str, **values: Any) -> None:
        from kybern.process import log

        log.configure(log_level, log_format == "json")
        converted = {k: _convert(hints[k], v) for k, v in values.items()}
        run(module.run(options(**converted)))

    return click.Command(name, params=parameters, callback=callback, help=module.__doc__)


def _import(name: str) -> types.ModuleType:
    """A module and all that it imports, which stays: nothing looks for garbage in it, now or later."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _option(field: dataclasses.Field[Any], hint: Any) -> click.Option:
    flag = "--" + field.name.replace("_", "-")
    default = None if field.default is dataclasses.MISSING else field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    help_text = field.metadata.get("help", "")
    if hint is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=default, show_default=True, help=help_text)
    kind = next((a for a in typing.get_args(hint) if a is not types.NoneType), hint) if _is_optional(hint) else hint
    if kind in (int, float):
        return click.Option([flag], type=kind, default=default, required=required, show_default=True, help=help_text)
    if typing.get_origin(kind) in (tuple, list):
        shown = ",".join(map(str, default or ()))
        return click.Option([flag], default=shown, show_default=True, help=help_text)
    return click.Option([flag], default=default, required=required, show_default=True, help=help_text)


def _is_optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def _convert(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (tuple, list) and isinstance(value, str):
        return typing.get_origin(hint)(filter(None, value.split(",")))
    if hint is not str and isinstance(hint, type) and issubclass(hint, Path):
        return hint(value)
    return value


def run(main: typing.Coroutine[Any, Any, None]) -> None:
    """Run a component on uvloop until it ends or SIGTERM comes."""
    import uvloop

    async def supervised() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await main

    try:
        uvloop.run(supervised())
    except asyncio.CancelledError:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
