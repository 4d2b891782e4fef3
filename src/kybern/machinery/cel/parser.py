"""Make the tree of an expression. Reads lexer, hands macros to macros; read by program.

Source: the CEL language definition, "Syntax". The wording of syntax errors comes from Google's parser (syntax_errors).
Promise: any text ends in a tree of bounded depth or in CelError.
"""

from __future__ import annotations

from typing import Final

from kybern.machinery.cel import macros
from kybern.machinery.cel.ast import (
    Call,
    FieldEntry,
    Ident,
    ListLiteral,
    Literal,
    MapEntry,
    MapLiteral,
    Node,
    Select,
    StructLiteral,
    qualified_name,
)
from kybern.machinery.cel.errors import CelError, Faulty, Issue
from kybern.machinery.cel.lexer import Token, tokens_of
from kybern.machinery.cel.values import MAX_INT
from kybern.pausing import pause

MAX_NESTING: Final = 80  # brackets in brackets: each costs about five Python frames, of a thousand
MAX_DEPTH: Final = 250  # of the tree: `a + b + c ...`; each costs a frame or two of every later pass

RESERVED: Final = frozenset(
    {
        "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
        "package", "namespace", "null", "return", "true", "var", "void", "while",
    }
)  # fmt: skip
_KEYWORDS: Final = frozenset({"true", "false", "null", "in"})
_RELATIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})


def parse(text: str) -> Node:
    """Raises CelError (a fault of meaning) or Faulty (a fault of grammar)."""
    parser = _Parser(text)
    node = parser.expression()
    parser.expect("end")
    if parser.issues:
        raise CelError(text, parser.issues)
    return node


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._at = 0
        self._nesting = 0
        self.issues: list[Issue] = []

    # -- tokens --------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _skip(self, kind: str) -> Token | None:
        return self._take() if self._token.kind == kind else None

    def expect(self, kind: str) -> Token:
        if self._token.kind != kind:
            raise self._unexpected()
        return self._take()

    def _unexpected(self) -> Faulty:
        token = self._token
        return Faulty(Issue(token.offset, f"Syntax error: mismatched input '{token.text}'"))

    def _built(self, node: Node, *parts: Node, added: int = 1) -> Node:
        """Keep count of how deep a tree has become."""
        pause()
        node.depth = added + max((p.depth for p in parts), default=0)
        if node.depth > MAX_DEPTH:
            raise CelError(self._text, [Issue(-1, f"expression recursion limit exceeded: {MAX_DEPTH}")])
        return node

    # -- operators -----------------------------------------------------------------------------------------------

    def expression(self) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise CelError(self._text, [Issue(-1, f"expression recursion limit exceeded: {MAX_NESTING}")])
        node = self._either()
        mark = self._skip("?")
        if mark is not None:
            yes = self._either()
            self.expect(":")
            no = self.expression()
            node = self._built(Call(mark.offset, "_?_:_", None, [node, yes, no]), node, yes, no)
        self._nesting -= 1
        return node

    def _either(self) -> Node:
        return self._logic("||", "_||_", lambda: self._logic("&&", "_&&_", self._relation))

    def _logic(self, mark: str, function: str, inner: object) -> Node:
        """A chain of one operator, as a balanced tree: a long chain is not a deep one."""
        assert callable(inner)
        terms = [inner()]
        offsets: list[int] = []
        while self._token.kind == mark:
            offsets.append(self._take().offset)
            terms.append(inner())
        return self._balanced(function, terms, offsets, 0, len(offsets) - 1) if offsets else terms[0]

    def _balanced(self, function: str, terms: list[Node], offsets: list[int], low: int, high: int) -> Node:
        middle = (low + high + 1) // 2
        left = terms[middle] if middle == low else self._balanced(function, terms, offsets, low, middle - 1)
        right = terms[middle + 1] if middle == high else self._balanced(function, terms, offsets, middle + 1, high)
        return self._built(Call(offsets[middle], function, None, [left, right]), left, right)

    def _relation(self) -> Node:
        node = self._sum()
        while True:
            token = self._token
            if token.kind in _RELATIONS:
                function = f"_{token.kind}_"
            elif token.kind == "ident" and token.text == "in":
                function = "@in"
            else:
                return node
            self._take()
            right = self._sum()
            node = self._built(Call(token.offset, function, None, [node, right]), node, right)

    def _sum(self) -> Node:
        node = self._product()
        while self._token.kind in "+-":
            token = self._take()
            right = self._product()
            node = self._built(Call(token.offset, f"_{token.kind}_", None, [node, right]), node, right)
        return node

    def _product(self) -> Node:
        node = self._unary()
        while self._token.kind in "*/%":
            token = self._take()
            right = self._unary()
            node = self._built(Call(token.offset, f"_{token.kind}_", None, [node, right]), node, right)
        return node

    def _unary(self) -> Node:
        token = self._token
        if token.kind not in ("!", "-"):
            return self._member()
        marks = 0
        while self._token.kind == token.kind:
            last = self._take()
            marks += 1
        number = self._token
        if token.kind == "-" and number.kind == "literal" and type(number.value) in (int, float) and marks % 2:
            # The sign belongs to the number: -9223372036854775808 is one.
            self._take()
            literal = self._number(number, token.offset, -number.value)
            return self._suffixes(literal)
        operand = self._member()
        if marks % 2 == 0:
            return operand
        del last
        return self._built(Call(token.offset, "!_" if token.kind == "!" else "-_", None, [operand]), operand)

    # -- members and primaries -----------------------------------------------------------------------------------

    def _member(self) -> Node:
        return self._suffixes(self._primary())

    def _suffixes(self, node: Node) -> Node:
        while True:
            token = self._token
            if token.kind == ".":
                self._take()
                optional = self._skip("?") is not None
                name = self._field_name()
                opening = self._token
                if opening.kind == "(" and not optional:
                    self._take()
                    node = self._call(opening.offset, name, node)
                else:
                    node = self._built(Select(token.offset, node, name, optional=optional), node)
            elif token.kind == "[":
                self._take()
                optional = self._skip("?") is not None
                index = self.expression()
                self.expect("]")
                function = "_[?_]" if optional else "_[_]"
                node = self._built(Call(token.offset, function, None, [node, index]), node, index)
            elif token.kind == "{" and (name_ := qualified_name(node)) is not None:
                node = self._struct(name_, self._take())
            else:
                return node

    def _field_name(self) -> str:
        token = self._token
        if token.kind == "quoted":
            raise Faulty(Issue(token.offset, "unsupported syntax: '`'"))
        if token.kind != "ident" or token.text in _KEYWORDS:
            raise self._unexpected()
        return self._take().text

    def _primary(self) -> Node:
        token = self._token
        if token.kind == "literal":
            self._take()
            return self._number(token, token.offset, token.value)
        if token.kind == "(":
            self._take()
            node = self.expression()
            self.expect(")")
            return node
        if token.kind == "[":
            return self._list(self._take())
        if token.kind == "{":
            return self._map(self._take())
        leading = self._skip(".")
        token = self._token
        if token.kind != "ident" or token.text == "in":
            raise self._unexpected()
        if leading is None and token.text in _KEYWORDS:
            self._take()
            return Literal(token.offset, {"true": True, "false": False, "null": None}[token.text])
        if token.text in RESERVED:
            self.issues.append(Issue(token.offset, f"reserved identifier: {token.text}"))
        self._take()
        name = f".{token.text}" if leading is not None else token.text
        opening = self._skip("(")
        if opening is not None:
            return self._call(opening.offset, name, None)
        return Ident(token.offset, name)

    def _number(self, token: Token, offset: int, value: object) -> Node:
        if type(value) is int and not -MAX_INT - 1 <= value <= MAX_INT:
            raise CelError(self._text, [Issue(offset, "invalid int literal")])
        return Literal(offset, value)

    def _call(self, offset: int, name: str, target: Node | None) -> Node:
        args: list[Node] = []
        while self._token.kind != ")":
            args.append(self.expression())
            if self._skip(",") is None:
                break
        self.expect(")")
        expanded = macros.expand(name, target, args, offset, self.issues)
        parts = args if target is None else [target, *args]
        if expanded is not None:
            return self._built(expanded, *parts, added=macros.ADDED_DEPTH)
        return self._built(Call(offset, name, target, args), *parts)

    def _list(self, opening: Token) -> Node:
        elements: list[Node] = []
        optional: set[int] = set()
        while self._token.kind != "]":
            if self._skip("?") is not None:
                optional.add(len(elements))
            elements.append(self.expression())
            if self._skip(",") is None:
                break
        self.expect("]")
        return self._built(ListLiteral(opening.offset, elements, frozenset(optional)), *elements)

    def _map(self, opening: Token) -> Node:
        entries: list[MapEntry] = []
        while self._token.kind != "}":
            optional = self._skip("?") is not None
            key = self.expression()
            colon = self.expect(":")
            entries.append(MapEntry(colon.offset, key, self.expression(), optional))
            if self._skip(",") is None:
                break
        self.expect("}")
        parts = [p for e in entries for p in (e.key, e.value)]
        return self._built(MapLiteral(opening.offset, entries), *parts)

    def _struct(self, name: str, opening: Token) -> Node:
        fields: list[FieldEntry] = []
        while self._token.kind != "}":
            optional = self._skip("?") is not None
            field_name = self._field_name()
            colon = self.expect(":")
            fields.append(FieldEntry(colon.offset, field_name, self.expression(), optional))
            if self._skip(",") is None:
                break
        self.expect("}")
        return self._built(StructLiteral(opening.offset, name, fields), *(f.value for f in fields))
