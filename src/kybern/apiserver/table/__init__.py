"""Objects as rows: the Table that `kubectl get` prints, with upstream's columns for every built-in kind.

    render.py     Table and PartialObjectMetadata documents
    column.py     what a column and a printer are; ages and other shared cells
    pods.py workloads.py network.py storage.py cluster.py policy.py   printers, a family of kinds a file
Called by handlers/forms. Source: the output of kubectl against a v1.36 API server.
"""

from kybern.apiserver.table.render import bookmark, partial_object, printer_of, render

__all__ = ["bookmark", "partial_object", "printer_of", "render"]
