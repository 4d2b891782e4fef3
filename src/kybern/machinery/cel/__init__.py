"""Expressions (CEL) as Kubernetes writes them: rules of custom resources, admission policies, match conditions.

Text -> lexer -> parser (with macros) -> checker (types, declarations) -> evaluate (closures, cost), behind
program.compile. library/ has the functions, schema_types turns OpenAPI schemas into types, schema_values shows objects
by them, estimate says what a program may cost before it runs.
Promise: any text and any object end in a value or an error, in bounded time.
"""

from kybern.machinery.cel.errors import CelError, CostExceeded, EvaluationError
from kybern.machinery.cel.program import COMPILATIONS, EVALUATIONS, Budget, Environment, Program, compile
from kybern.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    ObjectField,
    ObjectType,
    Type,
)

__all__ = [
    "BOOL",
    "BYTES",
    "COMPILATIONS",
    "DOUBLE",
    "DURATION",
    "DYN",
    "EVALUATIONS",
    "INT",
    "STRING",
    "TIMESTAMP",
    "Budget",
    "CelError",
    "CostExceeded",
    "Environment",
    "EvaluationError",
    "ObjectField",
    "ObjectType",
    "Program",
    "Type",
    "compile",
]
