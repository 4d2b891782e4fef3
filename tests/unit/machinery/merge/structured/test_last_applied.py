from __future__ import annotations

from kybern.api.meta_v1 import ManagedFieldsEntry
from kybern.api.scalars import Time
from kybern.machinery.merge.structured import fields, last_applied, managers
from kybern.machinery.merge.structured.managers import Manager

UPDATERS = frozenset({last_applied.CLIENT_SIDE})
ANNOTATION = ("f:metadata", "f:annotations", f"f:{last_applied.ANNOTATION}")


def entries(*found: Manager) -> list[ManagedFieldsEntry]:
    return managers.encode({m.key: m for m in found})


def manager(name: str, operation: str, *paths: fields.Path) -> Manager:
    return Manager(name, operation, "v1", "", Time("2026-01-01T00:00:00Z"), fields.of_paths(*paths))


def test_a_client_side_applier_becomes_a_server_side_one() -> None:
    before = entries(
        manager(last_applied.CLIENT_SIDE, managers.UPDATE, ("f:data", "f:a"), ANNOTATION),
        manager("other", managers.UPDATE, ("f:data", "f:b")),
    )
    after = last_applied.upgraded(before, UPDATERS, "kubectl")
    assert after == entries(
        manager("kubectl", managers.APPLY, ("f:data", "f:a")), manager("other", managers.UPDATE, ("f:data", "f:b"))
    )
    assert last_applied.upgraded(after, UPDATERS, "kubectl") == after


def test_what_the_applier_had_is_joined() -> None:
    before = entries(
        manager(last_applied.CLIENT_SIDE, managers.UPDATE, ("f:data", "f:a")),
        manager("kubectl", managers.APPLY, ("f:data", "f:c")),
    )
    after = last_applied.upgraded(before, UPDATERS, "kubectl")
    assert after == entries(manager("kubectl", managers.APPLY, ("f:data", "f:a"), ("f:data", "f:c")))
