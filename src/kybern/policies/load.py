"""Read a folder of policy files. Used by worker and offline.

Every `*.py` at the top of the folder is run once; names that begin with an underscore are for what they share
(`from _names import TEAMS`), which can be imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kybern.policies.admission import Policy, policy_of
from kybern.policies.errors import PolicyError, place

_PREFIX = "kybern_policy_file_"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One policy and the file it is from (relative to the folder)."""

    policy: Policy
    file: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.policy.line}"


def files_of(folder: Path) -> list[Path]:
    """The files that hold policies, by name. Raises PolicyError if the folder cannot be read."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.is_file())
    except OSError as error:
        raise PolicyError(f"{folder}: {error.strerror}") from None
    return [path for path in found if not path.name.startswith("_")]


Stamp = tuple[tuple[str, int, int, int], ...]


def stamp_of(folder: Path) -> Stamp:
    """Changes when a file of the folder does, shared ones included. Raises OSError."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def load(folder: Path) -> list[Loaded]:
    """All policies, by file and line. Raises PolicyError for the first file that cannot be used."""
    folder = folder.resolve()
    found: list[Loaded] = []
    names: dict[str, Loaded] = {}
    with _importable(folder):
        for path in files_of(folder):
            for policy in _policies_of(path, folder):
                loaded = Loaded(policy, path.name)
                if policy.name in names:
                    first = names[policy.name].place
                    raise PolicyError(f"{loaded.place}: policy {policy.name} is already in {first}: names are unique")
                names[policy.name] = loaded
                found.append(loaded)
    return found


def _policies_of(path: Path, folder: Path) -> list[Policy]:
    name = _PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PolicyError(f"{path.name}:1: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        where = place(error, folder) or f"{path.name}:1"
        raise PolicyError(f"{where}: {type(error).__name__}: {_said(error)}") from None
    found = [policy for policy in map(policy_of, vars(module).values()) if policy is not None]
    own = [policy for policy in found if policy.function.__module__ == name]  # others were imported
    return sorted(own, key=lambda policy: policy.line)


def _said(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Files of the folder may import each other, each time anew."""
    for name in [n for n, m in sys.modules.items() if _is_in(m, folder)]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _is_in(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(folder)
