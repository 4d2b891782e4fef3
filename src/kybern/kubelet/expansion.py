"""`$(NAME)` in commands, arguments, environment values and subPathExpr.

Pure. `$$` is a literal `$`; a name that is not known stays as written.
Source: "Define Dependent Environment Variables" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, values: Mapping[str, str], missing: list[str] | None = None) -> str:
    """`text` with references replaced. Names not found are added to `missing`."""
    if "$" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        dollar = text.find("$", at)
        if dollar < 0 or dollar + 1 >= len(text):
            out.append(text[at:])
            break
        out.append(text[at:dollar])
        following = text[dollar + 1]
        if following == "$":
            out.append("$")
            at = dollar + 2
        elif following == "(":
            end = text.find(")", dollar + 2)
            if end < 0:  # an open reference is text
                out.append("$(")
                at = dollar + 2
                continue
            name = text[dollar + 2 : end]
            if name in values:
                out.append(values[name])
            else:
                out.append(text[dollar : end + 1])
                if missing is not None:
                    missing.append(name)
            at = end + 1
        else:
            out.append(text[dollar : dollar + 2])
            at = dollar + 2
    return "".join(out)
