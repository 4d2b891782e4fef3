"""Custom resources: kinds that CustomResourceDefinitions bring, served like those that were built in.

From the definition to its objects, in the order of the data:

    definition/     is a CustomResourceDefinition right: names, versions, structural schemas, rules; its defaults
    names.py        which names it gets, when others claim them too (pure)
    lifecycle.py    conditions, and the removal of all objects before their definition goes
    version.py      one version of one definition, compiled: tree, validator, columns, scale
    structural.py   the tree of fields; prune.py, defaults.py, lists.py: what is done along it
    validate.py     values against the OpenAPI schema, in upstream's words; formats.py, numbers.py
    rules.py        validation rules (CEL) on values and transitions
    codec.py        bytes and JSON to CustomObjects of a version and back
    convert.py      the same through a conversion webhook; converted_watch.py: watches of what it converts
    strategy.py     what is special about writing them; scale.py: their replicas; fields.py: how applies merge
    columns.py      the columns of their Tables; jsonpath.py
    serving.py      the definitions that are served, their stores and rows; loaded when first asked for
    publish.py      what OpenAPI documents say about them
"""
