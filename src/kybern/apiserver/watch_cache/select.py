"""The objects somebody selects, in order of keys: by look-up where the selection names values, else by looking at each.

Reads cache and its indexes; used by handlers/list, watch and delete.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator

from kybern.apiserver.watch_cache.cache import ResourceCache
from kybern.apiserver.watch_cache.entry import Entry
from kybern.apiserver.watch_cache.hub import Selection
from kybern.apiserver.watch_cache.indexes import Of
from kybern.machinery.labels import Operator

# Looking at fewer than this is quicker than any index.
LOOK_AT = 256
# An answer that is most of what there is: going through all of it in order is quicker than sorting.
MOST = 4


def select(cache: ResourceCache, selection: Selection, after: str = "", limit: int = 0) -> list[Entry]:
    """Matching entries with keys greater than `after`, at most `limit` (0: all)."""
    return list(itertools.islice(_matching(cache, selection, after), limit or None))


def _matching(cache: ResourceCache, selection: Selection, after: str) -> Iterable[Entry]:
    field_selector, namespace = selection.field_selector, selection.namespace
    name = field_selector.exact("metadata.name") if field_selector is not None else None
    if name is not None and (namespace is not None or not cache.resource.namespaced):
        entry = cache.get(namespace or "", name)
        return [entry] if entry is not None and entry.key > after and selection.matches(entry) else []
    if selection.label_selector is None and field_selector is None:
        return _all(cache, namespace, after)
    keys = _narrowed(cache, selection)
    if keys is None:
        return filter(selection.matches, _all(cache, namespace, after))
    return filter(selection.matches, map(cache.at, sorted(key for key in keys if key > after)))


def _all(cache: ResourceCache, namespace: str | None, after: str) -> Iterable[Entry]:
    if not after:
        return cache.entries(namespace)
    return cache.page(f"{cache.prefix}{namespace}/" if namespace else cache.prefix, after)


def _narrowed(cache: ResourceCache, selection: Selection) -> Collection[str] | None:
    """Keys among which all that match are, if that spares looking at most objects."""
    count = cache.count(selection.namespace)
    if count < LOOK_AT:
        return None
    best: list[Collection[str]] | None = None
    least = count // MOST
    for of, name, values in _named(selection):
        if of is Of.FIELD and not cache.has_fixed_fields:
            continue
        index = cache.indexes.get(of, name)
        found = [index.find(value) for value in values]
        size = sum(map(len, found))
        if size < least:
            best, least = found, size
    if best is None or len(best) == 1:
        return best[0] if best is not None else None
    return set().union(*best)


def _named(selection: Selection) -> Iterator[tuple[Of, str, tuple[str, ...]]]:
    """What must have one of some values."""
    if selection.field_selector is not None:
        for name, operator, value in selection.field_selector.requirements:
            if operator == "=":
                yield Of.FIELD, name, (value,)
    if selection.label_selector is not None:
        for requirement in selection.label_selector.requirements:
            if requirement.operator in (Operator.EQUALS, Operator.IN):
                yield Of.LABEL, requirement.key, requirement.values
