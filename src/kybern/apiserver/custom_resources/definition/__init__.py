"""Is a CustomResourceDefinition right: its names and versions, its schemas, its rules.

    spec.py     group, scope, names, versions, conversion, columns, subresources, selectable fields
    plain.py    what no schema may say, wherever it stands
    schema.py   schemas: structural, of values that can be pruned, defaulted and merged
    rules.py    validation rules: they compile, and cannot cost more than they may
    shape.py    the free-form parts of a schema, brought into the shape of all others

Called by definition_strategy and (what keeps a stored one from being structural) by lifecycle. Pure.
Source: the answers of a v1.36 API server (tests/unit/apiserver/custom_resources/definitions.json).
"""

from kybern.apiserver.custom_resources.definition.spec import check_create, check_status, check_update, schema_faults

__all__ = ["check_create", "check_status", "check_update", "schema_faults"]
