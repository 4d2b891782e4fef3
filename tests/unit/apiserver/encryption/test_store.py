"""Encryption in an API server: what lies in the store, and what a server does that cannot read it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kybern.apiserver.encryption import configuration
from kybern.apiserver.encryption.store import EncryptedStore, Undecryptable, written_by
from kybern.apiserver.reload import Reload
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

SECRETS = "/api/v1/namespaces/default/secrets"
CONFIGS = "/api/v1/namespaces/default/configmaps"
KEY = "/registry/secrets/default/a"


def secret(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def rules_text(*keys: tuple[str, str, int], resources: tuple[str, ...] = ("secrets",), plain: bool = True) -> bytes:
    """`keys`: (provider, name, number), in their order; then identity."""
    providers: list[Any] = [{p: {"keys": [{"name": n, "secret": secret(s)}]}} for p, n, s in keys]
    providers += [{"identity": {}}] if plain else []
    return msgspec.json.encode(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": resources, "providers": providers}],
        }
    )


def opened(store: MemoryStore, *keys: tuple[str, str, int], **more: Any) -> EncryptedStore:
    return EncryptedStore(store, configuration.parse(rules_text(*keys, **more)))


def raw(store: MemoryStore, key: str = KEY) -> bytes:
    record = asyncio.run(store.get(key))
    assert record is not None
    return record.value


async def make_secret(api: Api) -> None:
    (await api.create(SECRETS, {"metadata": {"name": "a"}, "stringData": {"k": "hidden"}})).ok()


async def read_secret(api: Api) -> str:
    return base64.b64decode((await api.get(f"{SECRETS}/a")).ok()["data"]["k"]).decode()


@pytest.mark.parametrize("provider", ("aesgcm", "aescbc", "secretbox"))
def test_a_secret_is_hidden_in_the_store_and_whole_for_clients(provider: str) -> None:
    store = MemoryStore()

    async def scenario(api: Api) -> None:
        async with api.watch(f"{SECRETS}?watch=1") as watched:
            await make_secret(api)
            assert (await watched.next())["object"]["data"]["k"] == base64.b64encode(b"hidden").decode()
        assert await read_secret(api) == "hidden"
        (await api.patch(f"{SECRETS}/a", {"stringData": {"k": "new"}})).ok()
        assert await read_secret(api) == "new"

    api_server.run(scenario, store=opened(store, (provider, "key1", 1)))
    assert raw(store).startswith(f"k8s:enc:{provider}:v1:key1:".encode())
    assert b"metadata" not in raw(store)


def test_resources_that_are_not_selected_are_stored_as_they_are() -> None:
    store = MemoryStore()

    async def scenario(api: Api) -> None:
        (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()

    api_server.run(scenario, store=opened(store, ("aesgcm", "key1", 1)))
    assert raw(store, "/registry/configmaps/default/a").startswith(b'{"')


@pytest.mark.parametrize(
    ("selected", "key", "is_hidden"),
    (
        ("*.*", "/registry/configmaps/default/a", True),
        ("*.", "/registry/services/specs/default/kubernetes", True),
        ("*.", "/registry/clusterroles/admin", False),
        ("*.rbac.authorization.k8s.io", "/registry/clusterroles/admin", True),
        ("*.rbac.authorization.k8s.io", "/registry/configmaps/default/a", False),
        ("clusterroles.rbac.authorization.k8s.io", "/registry/clusterroles/admin", True),
        ("clusterroles.rbac.authorization.k8s.io", "/registry/clusterrolebindings/cluster-admin", False),
    ),
)
def test_resources_are_selected_by_name_group_and_wildcard(selected: str, key: str, is_hidden: bool) -> None:
    store = MemoryStore()

    async def scenario(api: Api) -> None:
        (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()

    api_server.run(scenario, store=opened(store, ("aesgcm", "key1", 1), resources=(selected,)))
    assert raw(store, key).startswith(b"k8s:enc:") == is_hidden


def test_custom_resources_are_selected_by_their_group() -> None:
    store = opened(MemoryStore(), ("aesgcm", "key1", 1), resources=("*.example.com", "things.other.example.org"))

    async def scenario() -> list[bytes]:
        found = []
        for key in ("example.com/widgets", "other.example.org/things", "other.example.org/widgets", "pods"):
            await store.create(f"/registry/{key}/ns/a", b"{}")
            record = await store.inner.get(f"/registry/{key}/ns/a")
            assert record is not None
            found.append(record.value[:8])
        return found

    assert asyncio.run(scenario()) == [b"k8s:enc:", b"k8s:enc:", b"{}", b"{}"]


@pytest.mark.parametrize("provider", ("aesgcm", "aescbc", "secretbox"))
def test_a_store_of_another_key_fails_at_start_and_serves_nothing(provider: str) -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=opened(store, (provider, "key1", 1)))
    for keys in (((provider, "key1", 2),), ((provider, "key2", 1),), ()):
        with pytest.raises(Undecryptable) as refused:
            api_server.run(read_secret, store=opened(store, *keys))
        assert KEY in str(refused.value)
        assert secret(1) not in str(refused.value)


def test_an_encrypted_store_without_configuration_fails_at_start() -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=opened(store, ("aesgcm", "key1", 1)))
    with pytest.raises(Undecryptable, match="/registry/secrets/default/a"):
        api_server.run(read_secret, store=store)


def test_a_resource_that_is_no_longer_selected_fails_at_start() -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=opened(store, ("aesgcm", "key1", 1)))
    with pytest.raises(Undecryptable):
        api_server.run(read_secret, store=opened(store, ("aesgcm", "key1", 1), resources=("configmaps",)))


@pytest.mark.parametrize("provider", ("aesgcm", "secretbox"))
def test_a_torn_value_fails_at_start_and_names_its_key(provider: str) -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=opened(store, (provider, "key1", 1)))
    whole = raw(store)

    async def tear() -> None:
        await store.update(KEY, whole[:-7], None)

    asyncio.run(tear())
    with pytest.raises(Undecryptable, match=KEY):
        api_server.run(read_secret, store=opened(store, (provider, "key1", 1)))


def test_a_value_that_arrives_unreadable_is_not_handed_to_watchers() -> None:
    inner = MemoryStore()
    store = opened(inner, ("aesgcm", "key1", 1), plain=False)

    async def scenario() -> None:
        watch = store.watch("/registry/", inner.revision)
        await inner.create(KEY, b"k8s:enc:aesgcm:v1:key1:garbage")
        async for batch in watch:
            pytest.fail(f"{batch}")

    with pytest.raises(Undecryptable):
        asyncio.run(scenario())


def test_plain_text_is_refused_where_identity_is_not_listed() -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=store)
    with pytest.raises(Undecryptable):
        api_server.run(read_secret, store=opened(store, ("aesgcm", "key1", 1), plain=False))


def test_plain_text_of_before_is_read_and_encrypted_when_it_is_written_again() -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=store)
    assert raw(store).startswith(b"{")

    async def replace(api: Api) -> None:
        same = (await api.get(f"{SECRETS}/a")).ok()
        (await api.update(f"{SECRETS}/a", same)).ok()
        before = store.revision
        same = (await api.get(f"{SECRETS}/a")).ok()
        (await api.update(f"{SECRETS}/a", same)).ok()
        assert store.revision == before, "the same, with the same key: nothing is written"

    api_server.run(replace, store=opened(store, ("secretbox", "key1", 1)))
    assert raw(store).startswith(b"k8s:enc:secretbox:v1:key1:")


def test_keys_are_rotated_by_writing_everything_again() -> None:
    store = MemoryStore()
    api_server.run(make_secret, store=opened(store, ("aesgcm", "old", 1)))

    async def replace(api: Api) -> None:
        for item in (await api.get("/api/v1/secrets")).ok()["items"]:
            target = f"/api/v1/namespaces/{item['metadata']['namespace']}/secrets/{item['metadata']['name']}"
            (await api.update(target, item)).ok()

    api_server.run(replace, store=opened(store, ("aescbc", "new", 2), ("aesgcm", "old", 1), plain=False))
    assert raw(store).startswith(b"k8s:enc:aescbc:v1:new:")
    assert api_server.run(read_secret, store=opened(store, ("aescbc", "new", 2), plain=False)) == "hidden"


def test_a_changed_file_takes_effect_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "encryption.yaml"
    inner = MemoryStore()
    first = rules_text(("aesgcm", "key1", 1))
    path.write_bytes(first)
    store = EncryptedStore(inner, configuration.parse(first))

    def take(text: bytes) -> None:
        store.rules = configuration.parse(text)

    reload = Reload("encryption", path, first, take, FakeClock())
    assert not reload.look()
    for wrong in (b"", b"x", b"{", rules_text(("aesgcm", "", 2))):
        path.write_bytes(wrong)
        assert not reload.look()
    path.write_bytes(rules_text(("secretbox", "key2", 2), ("aesgcm", "key1", 1)))

    async def scenario() -> None:
        await store.create(KEY, b"{}")
        assert reload.look()
        found = await store.get(KEY)
        assert found is not None
        assert found.value == b"{}"
        assert await store.is_stale(KEY)
        await store.update(KEY, b"{}", None)
        assert not await store.is_stale(KEY)

    asyncio.run(scenario())
    assert raw(inner).startswith(b"k8s:enc:secretbox:v1:key2:")
    path.unlink()
    assert not reload.look()


def test_what_is_written_and_read_is_counted_by_cipher() -> None:
    inner = MemoryStore()
    store = opened(inner, ("aescbc", "key1", 1))

    async def use() -> None:
        made = await store.create(KEY, b'{"a":1}')
        await store.get(KEY)
        await inner.update(KEY, b"k8s:enc:aescbc:v1:gone:xxxx", made.mod_revision)
        with pytest.raises(Undecryptable):
            await store.get(KEY)
        await store.create("/registry/configmaps/default/a", b"{}")

    asyncio.run(use())
    cipher = "k8s:enc:aescbc:v1:"
    assert store.operations == {
        ("secrets", "OK", "to_storage", cipher): 1,
        ("secrets", "OK", "from_storage", cipher): 1,
        ("secrets", "Unknown", "from_storage", cipher): 1,
    }


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"{}", "identity"),
        (b"k8s:enc:aesgcm:v1:key1:x", "k8s:enc:aesgcm:v1:"),
        (b"k8s:enc:", "k8s:enc:unknown:"),
        (b"k8s:enc:\xff:v1:", "k8s:enc:unknown:"),
    ],
)
def test_any_stored_value_has_a_name_for_its_cipher(value: bytes, name: str) -> None:
    assert written_by(value) == name
