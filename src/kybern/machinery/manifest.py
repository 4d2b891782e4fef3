"""YAML to JSON values, as sigs.k8s.io/yaml reads it: YAML 1.1 booleans, no dates, string keys. Pure.

Used by the API server for YAML bodies, by the kubelet for static pods, by the command line for files.
Raises ManifestError for anything else than YAML that JSON can say. Bounded: a document that is too large, too deep or
expands too far is given up where the limit is passed, not after all of it was read.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml

from kybern.pausing import pause

# How many nodes a document may have: three times the largest that people write, and read in a quarter of a second. What
# machines send is JSON, which has no such limit.
MAX_NODES = 100_000
MAX_DEPTH = 500
# How many nodes aliases may add: more than people write, few enough to be read in no time.
MAX_ALIASED = 20_000

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_OCTAL = re.compile(r"[-+]?0o?[0-7][0-7_]*")
_BINARY = re.compile(r"[-+]?0b[01][01_]*")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F][0-9a-fA-F_]*")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?")
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))


class ManifestError(ValueError):
    """The text is not YAML, or says what JSON can't."""


_TEXT = "tag:yaml.org,2002:str"
_PLAIN = "plain"  # the tag of a scalar without quotes and without a tag of its own


class _Loader(yaml.CSafeLoader):
    """Composes nodes only; values are resolved below (the library knows other numbers than Kubernetes does)."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}


def _compose(loader: _Loader) -> yaml.Node | None:
    """The nodes of the next document; None at the end of the stream.

    The library's own composer recurses without a limit: a megabyte of brackets is the end of the process.
    """
    event: Any = loader.get_event()
    if isinstance(event, yaml.StreamStartEvent):
        event = loader.get_event()
    if isinstance(event, yaml.StreamEndEvent):
        return None
    anchors: dict[str, Any] = {}
    open_nodes: list[Any] = []
    keys: list[yaml.Node | None] = []  # of each open mapping: the key whose value comes next
    root: yaml.Node | None = None
    count = 0
    while count <= MAX_NODES:
        event = loader.get_event()
        if isinstance(event, yaml.DocumentEndEvent):
            return root
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
            keys.pop()
            continue
        count += 1
        if count % 64 == 0:
            pause()
        node = _node_of(event, anchors)
        if not open_nodes:
            root = node
        elif isinstance(open_nodes[-1], yaml.SequenceNode):
            open_nodes[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].value.append((keys[-1], node))
            keys[-1] = None
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_nodes) >= MAX_DEPTH:
                raise ManifestError("error converting YAML to JSON: yaml: exceeded max depth")
            open_nodes.append(node)
            keys.append(None)
    raise ManifestError(f"error converting YAML to JSON: yaml: more than {MAX_NODES} nodes: send it as JSON")


def _node_of(event: Any, anchors: dict[str, Any]) -> Any:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise ManifestError(f"error converting YAML to JSON: yaml: unknown anchor '{event.anchor}' referenced")
        return anchors[event.anchor]
    node: Any
    if isinstance(event, yaml.ScalarEvent):
        tag = event.tag
        if tag is None or tag == "!":
            tag = _PLAIN if event.implicit[0] else _TEXT
        mark: Any = event.start_mark
        node = yaml.ScalarNode(tag, event.value, mark, style=event.style)
    elif isinstance(event, yaml.SequenceStartEvent):
        node = yaml.SequenceNode(event.tag or "", [])
    else:
        node = yaml.MappingNode(event.tag or "", [])
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _read_json(text: bytes | str) -> Any:
    """The value of a text that is JSON, in which no key occurs twice; raises ValueError for any other."""
    value = msgspec.json.decode(text)
    if len(msgspec.json.format(text, indent=-1)) != len(msgspec.json.encode(value)):
        raise ValueError("a key may occur twice, or something is spelled in an unusual way")
    return value


class Repeated(NamedTuple):
    """A key that occurs twice in one map."""

    line: int  # from 1
    key: str

    def __str__(self) -> str:
        return f'line {self.line}: key "{self.key}" already set in map'


def parse_yaml(text: bytes | str, duplicates: list[Repeated] | None = None) -> Any:
    """The JSON value of one document. Keys that occur twice are added to `duplicates` (the last one wins)."""
    if text[:1] in (b"{", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return _read_json(text)  # JSON is YAML, and read a hundred times as fast
    values = list(itertools.islice(_documents(text, duplicates), 2))
    if not values:
        return None
    if len(values) > 1:
        raise ManifestError("expected one YAML document, found more")
    return values[0]


def parse_yaml_documents(text: bytes | str) -> list[Any]:
    """Every non-empty document of a stream."""
    return [value for value in _documents(text, None) if value is not None]


def _documents(text: bytes | str, duplicates: list[Repeated] | None) -> Iterator[Any]:
    try:
        loader = _Loader(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"error converting YAML to JSON: {_one_line(error)}") from None
    try:
        while (node := _compose(loader)) is not None:
            yield _Reader(duplicates).value(node, 0)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"error converting YAML to JSON: {_one_line(error)}") from None
    finally:
        loader.dispose()


def _one_line(error: Exception) -> str:
    return "yaml: " + " ".join(str(error).split())


class _Reader:
    """Nodes to values, counting what aliases expand to."""

    def __init__(self, duplicates: list[Repeated] | None) -> None:
        self._nodes = 0
        self._aliased = 0
        self._seen: set[int] = set()  # ids of nodes; all live as long as the document
        self._duplicates = duplicates

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._nodes += 1
        if self._nodes % 64 == 0:
            pause()
        if id(node) in self._seen:
            self._aliased += 1
        self._seen.add(id(node))
        if self._nodes > MAX_NODES or self._aliased > MAX_ALIASED:
            raise ManifestError("error converting YAML to JSON: yaml: document contains excessive aliasing")
        if depth > MAX_DEPTH:
            raise ManifestError("error converting YAML to JSON: yaml: exceeded max depth")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ManifestError("error converting YAML to JSON: yaml: keys must be scalars")
            if key_node.tag == "tag:yaml.org,2002:merge" or (key_node.value == "<<" and key_node.tag == _PLAIN):
                merged.update(self._merged(value_node, depth))
                continue
            key = _key(key_node)
            if key in result and self._duplicates is not None:
                self._duplicates.append(Repeated(key_node.start_mark.line + 1, key))
            result[key] = self.value(value_node, depth + 1)
        return {**merged, **result} if merged else result

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in reversed(parts):
            value = self.value(part, depth + 1)
            if not isinstance(value, dict):
                raise ManifestError("error converting YAML to JSON: yaml: map merge requires map or sequence of maps")
            merged.update(value)
        return merged


def _key(node: yaml.ScalarNode) -> str:
    value = _scalar(node)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise ManifestError("error converting YAML to JSON: yaml: unsupported map key: null")
    if isinstance(value, float):
        return repr(value)
    return str(value)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    tag: str = node.tag
    if tag == "tag:yaml.org,2002:binary" or tag == "tag:yaml.org,2002:str" or node.style in ("'", '"', "|", ">"):
        return text
    if tag.startswith("!"):
        raise ManifestError(f"error converting YAML to JSON: yaml: unknown tag {tag}")
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return _number(text)


def _number(text: str) -> Any:
    if len(text) > 400 or text[0] not in "+-.0123456789":
        return text
    plain = text.replace("_", "")
    if _INTEGER.fullmatch(text):
        return int(plain) if len(plain) <= 40 else float(plain)
    if _HEX.fullmatch(text):
        return int(plain, 16)
    if _BINARY.fullmatch(text):
        return int(plain, 2)
    if _OCTAL.fullmatch(text):
        return int(plain.replace("o", ""), 8)
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ManifestError(f"error converting YAML to JSON: json: unsupported value: {text}")
    if _FLOAT.fullmatch(text) and any(c.isdigit() for c in text):
        value = float(plain)
        if not math.isfinite(value):
            raise ManifestError(f"error converting YAML to JSON: json: unsupported value: {text}")
        return int(value) if value.is_integer() and abs(value) < 2**53 and "e" not in text.lower() else value
    return text
