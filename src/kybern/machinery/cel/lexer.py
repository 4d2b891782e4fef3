"""Cut an expression into tokens. Read by parser. Source: the CEL language definition, "Syntax".

The pattern is ours and linear; users' texts are only matched against it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from kybern.machinery.cel.errors import CelError, Faulty, Issue
from kybern.machinery.cel.values import Uint
from kybern.pausing import pause

_QUOTED = (
    r"[rR]'''(?:(?!''').|\n)*'''|[rR]\"\"\"(?:(?!\"\"\").|\n)*\"\"\"|[rR]'[^'\n\r]*'|[rR]\"[^\"\n\r]*\""
    r"|'''(?:\\.|(?!''')[^\\])*'''|\"\"\"(?:\\.|(?!\"\"\")[^\\])*\"\"\""
    r"|'(?:\\.|[^'\\\n\r])*'|\"(?:\\.|[^\"\\\n\r])*\""
)
_TOKEN: Final = re.compile(
    rf"""
    (?P<space>[\t\x20\r\n\f]+|//[^\n]*)
  | (?P<bytes>[bB](?:{_QUOTED}))
  | (?P<string>{_QUOTED})
  | (?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
  | (?P<uint>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])
  | (?P<int>0x[0-9a-fA-F]+|[0-9]+)
  | (?P<ident>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<quoted>`[a-zA-Z0-9_.\-/\ ]+`)
  | (?P<mark>==|!=|<=|>=|&&|\|\||[-+*/%!?:.,()\[\]{{}}<>])
    """,
    re.VERBOSE | re.DOTALL,
)
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\'\"`?])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.|\n))"
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # ident, quoted, literal, end, or the mark itself
    text: str
    offset: int
    value: Any = None


def tokens_of(text: str) -> list[Token]:
    """All of them, with an `end` at last. Raises CelError."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Faulty(Issue(at, f"Syntax error: token recognition error at: '{text[at]}'"))
        kind = match.lastgroup or ""
        word = match.group()
        if kind == "mark":
            found.append(Token(word, word, at))
        elif kind in ("ident", "quoted"):
            found.append(Token(kind, word, at))
        elif kind != "space":
            found.append(Token("literal", word, at, _literal(text, kind, word, at)))
        at = match.end()
        if len(found) % 256 == 0:
            pause()
    found.append(Token("end", "<EOF>", len(text)))
    return found


def _literal(text: str, kind: str, word: str, at: int) -> Any:
    if kind == "int":
        return int(word, 0 if word.startswith("0x") else 10)  # judged by the parser, which knows the sign
    if kind == "uint":
        digits = word[:-1]
        number = int(digits, 0 if digits.startswith("0x") else 10)
        if number >= 1 << 64:
            raise CelError(text, [Issue(at, "invalid uint literal")])
        return Uint(number)
    if kind == "float":
        number_ = float(word)
        if number_ in (float("inf"), float("-inf")):
            raise CelError(text, [Issue(at, "invalid double literal")])
        return number_
    if kind == "bytes":
        return _unquote(text, word[1:], at, in_bytes=True)
    return _unquote(text, word, at, in_bytes=False)


def _unquote(text: str, word: str, at: int, *, in_bytes: bool) -> str | bytes:
    raw = word[0] in "rR"
    if raw:
        word = word[1:]
    width = 3 if word[:3] in ("'''", '"""') and len(word) >= 6 else 1
    body = word[width:-width]
    if raw or "\\" not in body:
        return body.encode() if in_bytes else body
    out = bytearray()
    last = 0
    for match in _ESCAPE.finditer(body):
        out += body[last : match.start()].encode()
        last = match.end()
        simple, byte, short, long, octal, bad = match.groups()
        code = byte or short or long
        if simple is not None:
            out += _SIMPLE[simple].encode()
        elif bad is not None:
            raise Faulty(Issue(at, f"Syntax error: token recognition error at: '{text[at:]}'"))
        elif in_bytes and (short or long):
            raise CelError(text, [Issue(at, "unable to unescape string")])
        else:
            number = int(code, 16) if code else int(octal, 8)
            if in_bytes:
                out.append(number)
            elif number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise CelError(text, [Issue(at, "invalid unicode code point")])
            else:
                out += chr(number).encode()
    out += body[last:].encode()
    return bytes(out) if in_bytes else out.decode()
