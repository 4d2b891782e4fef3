"""The cases: for every kind, creates, updates and status writes, valid ones and ones broken in one place.

Fed by seeds and values, read by record. The same number gives the same cases, for the same objects to update.
Each kind gets a share by how many fields it has; within it, every field is touched before any is touched twice.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kybern.machinery import scheme
from tools.corpus import forms, seeds, values

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One write. `base`: the number of the stored object that it changes, None for a create."""

    verb: str  # create, update, or a subresource
    what: str  # what was done to a valid object
    sent: dict[str, Any]
    base: int | None = None

    @property
    def kind(self) -> str:
        return f"{self.sent['apiVersion']}/{self.sent['kind']}"


@dataclass(frozen=True, slots=True)
class Site:
    """One place in an object. `value` is GONE where the object has nothing there."""

    path: Path
    definition: str
    field: str
    described: Any
    value: Any

    @property
    def where(self) -> str:
        """Without numbers and the keys of maps: places that the same rules judge."""
        if self.definition.endswith(".JSONSchemaProps"):  # as deep as one likes
            return f"JSONSchemaProps.{self.field}"
        return ".".join("*" if isinstance(step, int) else step for step in self.path)


# Of a server's own making, or in the way: a change there says nothing about rules.
_LEFT_ALONE = {("kind",), ("apiVersion",), ("metadata", "managedFields"), ("metadata", "selfLink")}
# A template of pods is judged by the same rules in every kind; it is gone through in pods, and sampled elsewhere.
_TEMPLATES = (".template.spec.", ".podSpec.", "volumeClaimTemplate", "inlineVolumeSpec")


# Stored ones would have a say about everything else in their namespace.
_LIMITING = ("LimitRange", "ResourceQuota")
APART = "corpus"


def sites(obj: dict[str, Any]) -> list[Site]:
    """Every place of an object where its schema has a field."""
    return [
        s
        for s in _sites(seeds.definition_of(obj), obj, ())
        if s.path[:2] not in _LEFT_ALONE and s.path not in _LEFT_ALONE
    ]


def _sites(definition: str, value: Any, path: Path) -> Iterator[Site]:
    if not isinstance(value, dict):
        return
    for field, described in seeds.properties(definition).items():
        inner = value.get(field, values.GONE)
        yield Site((*path, field), definition, field, described, inner)
        yield from _sites_in(described, inner, (*path, field))


def _sites_in(described: Any, value: Any, path: Path) -> Iterator[Site]:
    reference = seeds.reference_of(described)
    if reference:
        yield from _sites(reference, value, path)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _sites_in(described.get("items", {}), item, (*path, i))
            if isinstance(item, str):
                yield Site((*path, i), "", str(path[-1]), described.get("items", {}), item)
    elif isinstance(value, dict) and isinstance(described.get("additionalProperties"), dict):
        for key, item in value.items():
            yield from _sites_in(described["additionalProperties"], item, (*path, key))


def changed(obj: Any, path: Path, value: Any) -> Any:
    """A copy of `obj` with `value` at `path`; what is not on the way is shared."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        copy = list(obj)
        if not rest and value is values.GONE:
            del copy[step]
        else:
            copy[step] = changed(copy[step], tuple(rest), value)
        return copy
    mapping = dict(obj)
    if not rest and value is values.GONE:
        mapping.pop(step, None)
    else:
        mapping[step] = changed(mapping.get(step), tuple(rest), value)
    return mapping


class Generator:
    """Cases of one seeded run."""

    def __init__(self, number: int) -> None:
        self._rng = random.Random(number)

    def creates(self, wanted: int) -> list[Case]:
        """Creates of every kind."""
        by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for i, seed in enumerate(seeds.load()):
            named(seed, f"seed{i}")
            by_kind[f"{seed['apiVersion']}/{seed['kind']}"].append(seed)
        shares = self._shares(by_kind, wanted)
        found = []
        for kind, objects in by_kind.items():
            plain = [Case("create", "a seed", obj) for obj in objects]
            varied = [self._varied("create", obj, None) for obj in self._rng.choices(objects, k=shares[kind] // 5)]
            once = [case for i, obj in enumerate(objects) for case in self._once("create", obj, None, ())]
            found += plain + varied + self._spread(once, shares[kind])
        return unique(found)

    def updates(self, bases: Sequence[dict[str, Any]], wanted: int, verb: str = "update") -> list[Case]:
        """Changes of stored objects. `verb` other than update: only what that subresource writes is touched."""
        by_kind: dict[str, list[int]] = defaultdict(list)
        for i, base in enumerate(bases):
            if verb == "update" or has_subresource(base, verb):
                by_kind[f"{base['apiVersion']}/{base['kind']}"].append(i)
        objects = {kind: [bases[i] for i in numbers] for kind, numbers in by_kind.items()}
        shares = self._shares(objects, wanted)
        found = []
        for kind, numbers in by_kind.items():
            once = [case for i in numbers for case in self._once(verb, bases[i], i, _ROOTS.get(verb, ()))]
            varied = []
            if verb == "update":
                varied = [self._varied(verb, bases[i], i) for i in self._rng.choices(numbers, k=shares[kind] // 6)]
            found += varied + self._spread(once, shares[kind])
        return unique(found)

    def forms(self, bases: Sequence[dict[str, Any]], wanted: int) -> list[Case]:
        """Writes to the subresources that take a kind of their own, of a few objects of each kind that has them."""
        pod = next(base for base in bases if base["kind"] == "Pod")
        found = []
        for verb in forms.METHODS:
            groups = defaultdict(list)
            for i, base in enumerate(bases):
                if has_subresource(base, verb):
                    groups[f"{base['apiVersion']}/{base['kind']}"].append(i)
            for numbers in groups.values():
                bodies = [(i, body) for i in numbers[:4] for body in forms.bodies(verb, bases[i], pod)]
                share = wanted // len(forms.METHODS) // len(groups)
                varied = [self._varied(verb, body, i) for i, body in self._rng.choices(bodies, k=share // 5)]
                once = [case for i, body in bodies for case in self._once(verb, body, i, ())]
                found += [Case(verb, "a form", body, i) for i, body in bodies] + varied + self._spread(once, share)
        return unique(found)

    def _shares(self, objects: dict[str, list[dict[str, Any]]], wanted: int) -> dict[str, int]:
        """How many cases each kind gets: more for more fields, but some for all."""
        weights = {}
        for kind, items in objects.items():
            places = {site.where for obj in items for site in sites(obj)}
            weights[kind] = 25.0 + sum(0.15 if any(t in f".{p}" for t in _TEMPLATES) else 1.0 for p in places)
        total = sum(weights.values())
        return {kind: max(30, int(wanted * weight / total)) for kind, weight in weights.items()}

    def _once(self, verb: str, obj: dict[str, Any], base: int | None, roots: tuple[str, ...]) -> Iterator[Case]:
        """Every single change to an object."""
        for site in sites(obj):
            if roots and site.path[0] not in roots:
                continue
            if site.value is values.GONE:
                options = values.made(site.definition, site.field, site.described)[:3]
                if options:  # and broken forms of what is new
                    sample = options[0][1]
                    options = options + values.broken(site.definition, site.field, site.described, sample)[1:]
            else:
                options = values.broken(site.definition, site.field, site.described, site.value)
                options = options + values.others(site.definition, site.field, site.described, site.value)[:5]
            for label, value in options:
                if value is not values.GONE or site.value is not values.GONE:
                    yield Case(verb, f"{site.where}: {label}", changed(obj, site.path, value), base)

    def _varied(self, verb: str, obj: dict[str, Any], base: int | None) -> Case:
        """Some optional fields less, some more, some other than in a seed: valid more often than not."""
        done = []
        for _ in range(self._rng.randint(1, 4)):
            places = [s for s in sites(obj) if s.path[0] != "metadata" or len(s.path) > 2]
            site = self._rng.choice(places or sites(obj))
            options = values.made(site.definition, site.field, site.described)
            if site.value is not values.GONE:
                options = [*options, ("gone", values.GONE)]
            if options:
                label, value = self._rng.choice(options)
                obj = changed(obj, site.path, value)
                done.append(f"{site.where}: {label}")
        return Case(verb, "; ".join(done), obj, base)

    def _spread(self, cases: list[Case], wanted: int) -> list[Case]:
        """`wanted` of the cases: one for each place, then a second, and so on; by lot within a place."""
        places: dict[str, list[Case]] = defaultdict(list)
        self._rng.shuffle(cases)
        for case in cases:
            places[case.what.partition(":")[0]].append(case)
        taken: list[Case] = []
        seen: set[str] = set()
        while places and len(taken) < wanted:
            names = list(places)
            self._rng.shuffle(names)
            for place in names:
                if any(t in f".{place}" for t in _TEMPLATES) and self._rng.random() < 0.85:
                    continue
                case = places[place].pop()
                if case.what not in seen:
                    seen.add(case.what)
                    taken.append(case)
                if not places[place]:
                    del places[place]
                if len(taken) >= wanted:
                    break
        return taken


# What a subresource writes.
_ROOTS = {"status": ("status", "metadata"), "finalize": ("spec", "metadata")}


def has_subresource(obj: dict[str, Any], name: str) -> bool:
    resource = scheme.kind_of(obj["apiVersion"], obj["kind"])
    return resource is not None and any(s.name == name for s in resource.subresources)


def named(obj: dict[str, Any], name: str) -> None:
    """Give a nameless seed a name; reviews, which are not stored, have none."""
    resource = scheme.kind_of(obj["apiVersion"], obj["kind"])
    assert resource is not None
    meta = obj.setdefault("metadata", {})
    if "get" in resource.verbs and not meta.get("name") and not meta.get("generateName"):
        meta["name"] = name


def stored_seeds(prefix: str) -> Iterator[dict[str, Any]]:
    """Every seed of a kind that is stored, under a name: its own, or `prefix` and its number."""
    for number, seed in enumerate(seeds.load()):
        resource = scheme.kind_of(seed["apiVersion"], seed["kind"])
        assert resource is not None
        if "get" not in resource.verbs:
            continue
        named(seed, f"{prefix}-{number}")
        if "generateName" in seed["metadata"]:
            seed["metadata"] = {**seed["metadata"], "name": f"{prefix}-{number}"}
        yield seed


def target_of(obj: dict[str, Any], verb: str, name: str = "") -> tuple[str, str]:
    """Method and target of a write."""
    resource = scheme.kind_of(obj["apiVersion"], obj["kind"])
    assert resource is not None
    place = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    if resource.namespaced:
        place += f"/namespaces/{APART if obj['kind'] in _LIMITING else 'default'}"
    place += f"/{resource.plural}"
    if verb == "create":
        return "POST", place
    return forms.METHODS.get(verb, "PUT"), f"{place}/{name}" if verb == "update" else f"{place}/{name}/{verb}"


def unique(cases: Sequence[Case]) -> list[Case]:
    """Without what was there before, in order."""
    seen = set()
    found = []
    for case in cases:
        key = (case.verb, case.base, repr(case.sent))
        if key not in seen:
            seen.add(key)
            found.append(case)
    return found
