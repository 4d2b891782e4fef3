"""The functions of expressions: CEL's own and those of Kubernetes. One library a file; `LIBRARIES` is all of them.

Source: "Common Expression Language in Kubernetes: CEL options, language features, and libraries" in the documentation.
"""

from __future__ import annotations

from kybern.machinery.cel.library import (
    authorizer,
    formats,
    lists,
    networks,
    optionals,
    quantities,
    standard,
    strings,
    times,
    urls,
    versions,
)

LIBRARIES = (
    standard.LIBRARY,
    times.LIBRARY,
    optionals.LIBRARY,
    lists.LIBRARY,
    strings.LIBRARY,
    urls.LIBRARY,
    networks.LIBRARY,
    quantities.LIBRARY,
    versions.LIBRARY,
    formats.LIBRARY,
    authorizer.LIBRARY,
)
