"""Objects of one version as those of another, by the webhook of their definition.

Made by serving for definitions with strategy Webhook; asked by WebhookCodec and by watches. Conversions wait for the
network, and reads do not: who is about to show objects asks for them first (`warm`), and finds them kept afterwards.
Source: "Webhook conversion" in the Kubernetes documentation.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.custom import CustomObject
from kybern.apiserver.custom_resources.codec import CustomCodec, render
from kybern.apiserver.custom_resources.jsonpath import JsonPath, selected_text
from kybern.apiserver.custom_resources.version import Version
from kybern.apiserver.watch_cache.cache import ResourceCache
from kybern.apiserver.watch_cache.entry import splice
from kybern.apiserver.webhooks.client import CallFailed, WebhookClient
from kybern.machinery.status import ApiError

TIMEOUT = 30.0  # kube-apiserver: the same, for each call
KEPT_BYTES = 64 << 20
AT_ONCE = 500  # objects in one call
_REVISION = re.compile(rb'"metadata":\{"resourceVersion":"(\d+)"(,?)')


class _Told(msgspec.Struct):
    apiVersion: str = ""


_told = msgspec.json.Decoder(_Told).decode


def version_of(data: bytes) -> str:
    """The apiVersion of an object's bytes."""
    return _told(data).apiVersion


def without_revision(data: bytes) -> tuple[bytes, int]:
    """Bytes as they are stored, and the resourceVersion that was spliced into them (0: none)."""
    # The object's own metadata comes first; what is embedded in it may have a revision as well.
    found = _REVISION.match(data, data.find(b'"metadata":{'))
    if found is None:
        return data, 0
    return b'%s"metadata":{%s' % (data[: found.start()], data[found.end() :]), int(found[1])


class Conversions:
    """What the webhook of a definition has converted, and how to ask it for more."""

    def __init__(self, definition: CustomResourceDefinition, client: WebhookClient, rng: Random) -> None:
        conversion = definition.spec.conversion
        assert conversion is not None and conversion.webhook is not None
        self._webhook = conversion.webhook
        self._what = definition.spec.names.kind
        self._client = client
        self._rng = rng
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    def find(self, value: bytes, target: str) -> bytes | None:
        """A stored value in another version, if it was asked for before."""
        return self._kept.get(_key(value, target))

    async def warm(self, values: Iterable[bytes], target: str) -> None:
        """Have stored values at hand in `target`. Raises ApiError 500 with what the webhook's fault is."""
        missing: dict[bytes, bytes] = {}
        for value in values:
            key = _key(value, target)
            if key in self._kept:
                self._kept.move_to_end(key)
            elif version_of(value) != target:
                missing[key] = value
        waiting = list(missing.items())
        self._make_room()
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            converted = await self._convert([msgspec.json.decode(value) for _, value in part], target)
            for (key, _), document in zip(part, converted, strict=True):
                made = render(codec.decode(CustomObject, msgspec.json.encode(document)), target)
                self._kept[key] = made
                self._size += len(made)

    def _make_room(self) -> None:
        """Before asking, never after: what one caller asks for stays until the caller has read it."""
        while self._size > KEPT_BYTES and self._kept:
            self._size -= len(self._kept.popitem(last=False)[1])

    async def _convert(self, documents: list[dict[str, Any]], target: str) -> list[dict[str, Any]]:
        uid = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        versions = [v for v in self._webhook.conversionReviewVersions if v in ("v1", "v1beta1")]
        review = f"apiextensions.k8s.io/{versions[0]}"
        body = msgspec.json.encode(
            {
                "kind": "ConversionReview",
                "apiVersion": review,
                "request": {"uid": uid, "desiredAPIVersion": target, "objects": documents},
            }
        )
        config = self._webhook.clientConfig
        assert config is not None
        try:
            answer = await self._client.call(config, body, TIMEOUT, query=f"timeout={int(TIMEOUT)}s")
            return self._check(documents, _response(answer, review, uid), target)
        except (CallFailed, ValueError, RecursionError) as error:
            gvk = f"{documents[0].get('apiVersion')}, Kind={self._what}"
            raise ApiError.make(500, "", f"conversion webhook for {gvk} failed: {error}") from None

    def _check(
        self, documents: Sequence[Mapping[str, Any]], response: Mapping[str, Any], target: str
    ) -> list[dict[str, Any]]:
        """The converted objects, which are still who they were. Raises ValueError."""
        result = response.get("result") or {}
        if not isinstance(result, dict):
            raise ValueError("response.result is no object")
        if result.get("status") != "Success":
            raise ValueError(result.get("message") or f"response.result.status was '{result.get('status', '')}'")
        found = response.get("convertedObjects")
        if not isinstance(found, list) or len(found) != len(documents):
            count = len(found) if isinstance(found, list) else 0
            raise ValueError(f"webhook returned {count} objects, expected {len(documents)}")
        made = []
        for i, (before, after) in enumerate(zip(documents, found, strict=True)):
            if not isinstance(after, dict):
                raise ValueError(f"invalid converted object at index {i}: it is no object")
            if after.get("apiVersion") != target:
                told = after.get("apiVersion")
                wrong = f"invalid apiVersion {told!r}, expected {target}"
                raise ValueError(f"invalid converted object at index {i}: {wrong}")
            if after.get("kind") != before.get("kind"):
                raise ValueError(f"invalid converted object at index {i}: invalid kind {after.get('kind')!r}")
            made.append(_restored(before, after, i))
        return made


def _response(answer: bytes, review: str, uid: str) -> Mapping[str, Any]:
    document = msgspec.json.decode(answer)
    if not isinstance(document, dict) or document.get("kind") != "ConversionReview":
        raise ValueError("expected webhook response of kind ConversionReview")
    if document.get("apiVersion") != review:
        raise ValueError(f"expected webhook response of {review}, got {document.get('apiVersion')}")
    response = document.get("response")
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if response.get("uid") != uid:
        raise ValueError(f"expected response.uid {uid!r}, got {response.get('uid')!r}")
    return response


def _restored(before: Mapping[str, Any], after: dict[str, Any], i: int) -> dict[str, Any]:
    """Labels and annotations are the webhook's to change; other metadata is kept, whatever it says."""
    given = after.get("metadata")
    if not isinstance(given, dict):
        raise ValueError(f"invalid converted object at index {i}: it has no metadata")
    kept = dict(before.get("metadata") or {})
    for name in ("name", "namespace", "uid"):
        if (given.get(name) or "") != (kept.get(name) or ""):
            raise ValueError(f"invalid converted object at index {i}: metadata.{name} must not change")
    for name in ("labels", "annotations"):
        changed = given.get(name)
        kept.pop(name, None)
        if isinstance(changed, dict) and changed:
            if not all(isinstance(text, str) for text in changed.values()):
                raise ValueError(f"invalid converted object at index {i}: metadata.{name} must be texts")
            kept[name] = changed
    return {**after, "metadata": kept}


def _key(value: bytes, target: str) -> bytes:
    return hashlib.blake2b(value, digest_size=16, key=target.encode()[:64]).digest()


class WebhookCodec(CustomCodec):
    """The codec of a version whose objects are made of others by a webhook. It is its own `converter`."""

    def __init__(self, version: Version, conversions: Conversions) -> None:
        super().__init__(version)
        self.converter = self
        self._conversions = conversions

    async def warm(self, datas: Iterable[bytes]) -> None:
        await self._conversions.warm((without_revision(data)[0] for data in datas), self._api_version)

    async def warm_object(self, obj: CustomObject) -> None:
        if obj.apiVersion == self._api_version != self._version.stored_as:
            obj.metadata.resourceVersion, told = "", obj.metadata.resourceVersion
            await self._conversions.warm((render(obj, self._api_version),), self._version.stored_as)
            obj.metadata.resourceVersion = told

    def encode(self, obj: CustomObject) -> bytes:
        value = render(obj, obj.apiVersion)
        if obj.apiVersion != self._api_version or obj.apiVersion == self._version.stored_as:
            return value  # as it is in the store: it is about to be deleted
        found = self._conversions.find(value, self._version.stored_as)
        if found is None:
            raise ApiError.unavailable(f"the object is not converted to {self._version.stored_as}")
        return found

    def shown(self, value: bytes) -> bytes:
        """Raises ApiError where a conversion was not asked for."""
        bare, revision = without_revision(value)
        if version_of(bare) != self._api_version:
            found = self._conversions.find(bare, self._api_version)
            if found is None:
                raise ApiError.unavailable(f"the object is not converted to {self._api_version}")
            bare = found
        elif revision == 0:
            return super().shown(value)
        made = super().shown(bare)
        return splice(made, revision) if revision else made


class StoredCodec(CustomCodec):
    """The codec of the memory of such objects: they stand in it in the version they are stored in."""

    def shown(self, value: bytes) -> bytes:
        try:
            return super().shown(value) if version_of(value) == self._api_version else value
        except ValueError:
            return value


class ConvertedCache(ResourceCache):
    """The memory of such objects: what selectors need is found out when it is needed."""

    has_fixed_fields = False

    def prepare(self, value: bytes, labels: Mapping[str, str], fields: Mapping[str, str]) -> None:
        """Nothing: the fields of other versions are not known yet."""


class ConvertedFields(Mapping[str, str]):
    """The selectable fields of a stored value, as the versions that know them show it."""

    def __init__(
        self,
        value: bytes,
        plain: Mapping[str, str],
        paths: Mapping[str, tuple[Version, JsonPath]],
        conversions: Conversions,
    ) -> None:
        """`plain`: those of all versions alike; `paths`: which version selects what."""
        self._value, self._plain, self._paths, self._conversions = value, plain, paths, conversions

    def __getitem__(self, name: str) -> str:
        if name in self._plain:
            return self._plain[name]
        version, path = self._paths[name]
        target = version.resource.api_version
        value = self._value
        if version_of(value) != target:
            converted = self._conversions.find(value, target)
            if converted is None:
                return ""
            value = converted
        found = path.find(msgspec.json.decode(value))
        return selected_text(found[0]) if found else ""

    def __iter__(self) -> Iterator[str]:
        return iter((*self._plain, *self._paths))

    def __len__(self) -> int:
        return len(self._plain) + len(self._paths)
