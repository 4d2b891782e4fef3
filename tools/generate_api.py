"""Write `src/kybern/api/*_v*.py` and `resources.py`: names and types of the built-in kinds.

Run by `make generate`. Reads the schema package (`kubernetes-validate`) and a folder of discovery
documents; writes one module a group-version. Nothing but names and types is taken over, so the
descriptions stay in the schema package, where OpenAPI and `kubectl explain` read them at run time.

    python tools/generate_api.py DISCOVERY_FOLDER
"""

from __future__ import annotations

import json
import keyword
import pathlib
import sys
from typing import Any

import kubernetes_validate

VERSION = "v1.36.0"
OUT = pathlib.Path(__file__).parent.parent / "src/kybern/api"
SCHEMA = pathlib.Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/{VERSION}-local/_definitions.json"

SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "Time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "MicroTime",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "IntOrString",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "FieldsV1",
}
# Definitions without a fixed shape: kept as decoded JSON.
FREE_FORM = {
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
}
# Required on the wire, yet "not given" must stay different from "empty": an empty selector selects everything.
KEEP_OPTIONAL = {"LabelSelector", "NodeSelector"}
# Always present although the schema calls them optional: upstream emits `{}` for them.
ALWAYS_THERE = {
    ("PodTemplateSpec", "metadata"), ("PodTemplateSpec", "spec"), ("JobTemplateSpec", "metadata"),
    ("JobTemplateSpec", "spec"), ("DeploymentSpec", "strategy"), ("DaemonSetSpec", "updateStrategy"),
    ("StatefulSetSpec", "updateStrategy"), ("Container", "resources"), ("EphemeralContainer", "resources"),
    ("ServiceStatus", "loadBalancer"), ("IngressStatus", "loadBalancer"), ("ContainerStatus", "state"),
    ("ContainerStatus", "lastState"), ("NodeStatus", "nodeInfo"), ("NodeStatus", "daemonEndpoints"),
    ("NodeDaemonEndpoints", "kubeletEndpoint"), ("PersistentVolumeClaimSpec", "resources"),
    ("Endpoint", "conditions"), ("Event", "source"),
}  # fmt: skip
ALWAYS_STRINGS = {("ObjectMeta", n) for n in ("name", "generateName", "namespace", "uid", "resourceVersion")}


def module_of(definition: str) -> str:
    """`io.k8s.api.apps.v1.Deployment` -> `apps_v1`."""
    parts = definition.split(".")[:-1]
    return "version_info" if parts[-1] == "version" else f"{parts[-2]}_{parts[-1]}"


def attribute(name: str) -> str:
    """A Python attribute for a wire field: keywords and builtin types get an underscore, `$` and `-` go."""
    name = name.replace("$", "").replace("-", "_")
    taken = keyword.iskeyword(name) or name in ("bool", "int", "str", "float", "list", "dict", "bytes")
    return name + "_" if taken else name


class Writer:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = definitions
        self.imports: set[str] = set()

    def type_of(self, schema: dict[str, Any], module: str) -> tuple[str, str]:
        """(annotation without None, sort: list, map, struct, free, time or scalar)."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            if name in SCALARS:
                return SCALARS[name], "time" if SCALARS[name] != "IntOrString" else "scalar"
            if name in FREE_FORM:
                return "Any", "free"
            if module_of(name) != module:
                self.imports.add(module_of(name))
                return f"{module_of(name)}.{name.rsplit('.', 1)[1]}", "struct"
            return name.rsplit(".", 1)[1], "struct"
        kinds = schema.get("type")
        kind = next((k for k in kinds if k != "null"), None) if isinstance(kinds, list) else kinds
        if kind == "array":
            return f"list[{self.type_of(schema['items'], module)[0]}]", "list"
        if kind == "object":
            if "additionalProperties" in schema:
                return f"dict[str, {self.type_of(schema['additionalProperties'], module)[0]}]", "map"
            return "dict[str, Any]", "map"
        if kind == "integer":
            return "Int32" if schema.get("format") == "int32" else "Int64", "int"
        if kind == "number":
            return "float", "float"
        if kind == "boolean":
            return "bool", "bool"
        if kind == "string":
            return ("bytes" if schema.get("format") == "byte" else "str"), "str"
        return "Any", "free"

    def field(self, owner: str, is_kind: bool, name: str, schema: dict[str, Any], required: bool, module: str) -> str:
        annotation, sort = self.type_of(schema, module)
        attr = attribute(name)
        rename = "" if attr == name else f'name="{name}"'
        args: list[str]
        if sort == "list":
            args = ["default_factory=empty_list" if required else "default_factory=list"]
        elif sort == "map":
            args = ["default_factory=empty_map" if required else "default_factory=dict"]
        elif sort == "struct" and (
            (required and annotation.rsplit(".")[-1] not in KEEP_OPTIONAL)
            or (is_kind and name in ("metadata", "spec", "status"))
            or (owner, name) in ALWAYS_THERE
        ):
            # A lambda: the class may be defined further down, and msgspec then always emits the field.
            args = [f"default_factory=lambda: {annotation}()"]
        elif sort in ("int", "bool", "str", "float") and required and annotation != "bytes":
            factory = {"int": "zero", "bool": "false", "str": "empty_string", "float": "zero_float"}[sort]
            args = [f"default_factory={factory}"]
        elif (owner, name) in ALWAYS_STRINGS:
            args = ['default=""']
        else:
            if annotation != "Any":
                annotation += " | None"
            args = ["default=None"]
        if rename:
            args.append(rename)
        return f"    {attr}: {annotation} = msgspec.field({', '.join(args)})"

    def struct(self, definition: str, schema: dict[str, Any], module: str) -> list[str]:
        name = definition.rsplit(".", 1)[1]
        gvks = schema.get("x-kubernetes-group-version-kind", [])
        properties = schema.get("properties", {})
        is_kind = len(gvks) == 1 and "kind" in properties and "apiVersion" in properties
        lines = [f"class {name}(Struct):"]
        required = set(schema.get("required", []))
        for field_name in sorted(properties, key=lambda n: {"kind": "0", "apiVersion": "1", "metadata": "2"}.get(n, n)):
            if is_kind and field_name in ("apiVersion", "kind"):
                group, version = gvks[0]["group"], gvks[0]["version"]
                value = gvks[0]["kind"] if field_name == "kind" else f"{group}/{version}" if group else version
                lines.append(f'    {field_name}: str = msgspec.field(default_factory=lambda: "{value}")')
            else:
                lines.append(
                    self.field(name, is_kind, field_name, properties[field_name], field_name in required, module)
                )
        if len(lines) == 1:
            lines.append("    pass")
        return [*lines, "", ""]

    def module(self, module: str, names: list[str]) -> str:
        self.imports = set()
        body: list[str] = []
        for definition in names:
            body += self.struct(definition, self.definitions[definition], module)
        used = any("FieldsV1" in line for line in body)
        text = [
            f'"""Kinds of {module.replace("_", "/")}. Generated by tools/generate_api.py: do not edit."""',
            "",
            "# ruff: noqa: E501, PLW0108",
            "from __future__ import annotations",
            "",
            "from typing import Any  # noqa: F401",
            "",
            "import msgspec",
            "",
            *(f"from kybern.api import {other}" for other in sorted(self.imports)),
            "from kybern.api.scalars import (  # noqa: F401",
            f"    {'FieldsV1, ' * used}Int32, Int64, IntOrString, MicroTime, Quantity, Struct, Time,",
            "    empty_list, empty_map, empty_string, false, zero, zero_float,",
            ")",
            "",
            "",
        ]
        return "\n".join([*text, *body]).rstrip() + "\n"


def write_kinds(definitions: dict[str, Any]) -> None:
    modules: dict[str, list[str]] = {}
    for definition in sorted(definitions):
        if definition not in SCALARS and definition not in FREE_FORM:
            modules.setdefault(module_of(definition), []).append(definition)
    writer = Writer(definitions)
    for module, names in modules.items():
        (OUT / f"{module}.py").write_text(writer.module(module, names))


def write_resources(folder: pathlib.Path, definitions: dict[str, Any]) -> None:
    """The table of resources, in the order of the discovery documents."""
    where = {}
    for definition, schema in definitions.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            where.setdefault((gvk["group"], gvk["version"], gvk["kind"]), []).append(definition)
    groups = [("", ["v1"])]
    for group in json.loads((folder / "apis.json").read_text())["groups"]:
        groups.append((group["name"], [v["version"] for v in group["versions"]]))
    lines = [
        '"""Every resource of every group-version. Generated by tools/generate_api.py: do not edit."""',
        "",
        "# ruff: noqa: E501",
        "from __future__ import annotations",
        "",
        "from kybern.api.resource import Resource, Subresource",
        "",
        "GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (",
        *(f"    {(g, tuple(v))!r}," for g, v in groups),
        ")",
        "",
        "RESOURCES: tuple[Resource, ...] = (",
    ]
    for group, versions in groups:
        for version in versions:
            file = f"apis__{group}__{version}.json" if group else f"api__{version}.json"
            rows = json.loads((folder / file).read_text())["resources"]
            for row in rows:
                if "/" in row["name"]:
                    continue
                own = where.get((group, version, row["kind"]), [])
                definition = next((d for d in own if d.endswith("." + row["kind"])), "")
                subs = [
                    Sub(
                        r["name"].split("/", 1)[1],
                        r["kind"],
                        r.get("group", group),
                        r.get("version", version),
                        r["verbs"],
                    )
                    for r in rows
                    if r["name"].startswith(row["name"] + "/")
                ]
                lines.append(
                    f"    Resource(group={group!r}, version={version!r}, plural={row['name']!r}, "
                    f"singular={row['singularName']!r}, kind={row['kind']!r}, namespaced={row['namespaced']}, "
                    f"verbs={tuple(row['verbs'])!r}, short_names={tuple(row.get('shortNames', ()))!r}, "
                    f"categories={tuple(row.get('categories', ()))!r}, "
                    f"storage_version_hash={row.get('storageVersionHash', '')!r}, "
                    f"definition={definition!r}, module={(module_of(definition) if definition else '')!r}, "
                    f"subresources=({''.join(map(str, subs))})),"
                )
    lines.append(")")
    text = "\n".join(lines) + "\n"
    (OUT / "resources.py").write_text(text)


class Sub:
    def __init__(self, name: str, kind: str, group: str, version: str, verbs: list[str]) -> None:
        self.text = (
            f"Subresource(name={name!r}, kind={kind!r}, group={group!r}, version={version!r}, verbs={tuple(verbs)!r}), "
        )

    def __str__(self) -> str:
        return self.text


def main() -> None:
    definitions = json.loads(SCHEMA.read_text())["$defs"]
    write_kinds(definitions)
    write_resources(pathlib.Path(sys.argv[1]), definitions)


if __name__ == "__main__":
    main()
