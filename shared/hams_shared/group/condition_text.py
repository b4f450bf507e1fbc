"""The text of a condition before it is compiled: its tokens, its bounds, and the error that names a position. Pure.

Only what may stand in a condition reaches Python's parser, at a bounded length and depth. So nobody can attack the
parser, and its own messages, which differ between versions of Python, are not shown.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import re
from collections.abc import Iterable, Iterator

MAX_LENGTH = 2000
"""Most characters."""
MAX_TOKENS = 500
"""Most names, numbers, texts and signs."""
MAX_DEPTH = 24
"""Deepest nesting, of brackets and of operators."""
CARET_WIDTH = 100
"""Characters of a condition in the lines that show a position."""

_ADVICE = {
    "=": "write == to compare",
    "===": "write == to compare",
    "=>": "write >=",
    "=<": "write <=",
    "<>": "write !=",
    "&&": "write and",
    "&": "write and",
    "||": "write or",
    "|": "write or",
    "!": "write not",
    "**": "there is no power; write x * x",
    "//": "there is no floor division; write /",
    "\\": "texts have no escapes; a text in double quotes may have single quotes in it",
    "#": "there are no comments; write them in the file",
    "is": "write == or !=",
    "None": "what is missing is unknown, and makes a comparison unknown",
    "AND": "write and",
    "OR": "write or",
    "NOT": "write not",
    "IN": "write in",
}
_WORDS = frozenset({"and", "or", "not", "in", "True", "False"})
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<wrong>\*\*|//|&&|\|\||<>|===|=>|=<|=(?!=)|!(?!=))
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<sign>==|!=|<=|>=|[-<>+*/%,.])""",
    re.VERBOSE | re.ASCII,
)


class ConditionError(ValueError):
    """A condition that cannot be used: what is wrong, at which column, and what to write instead."""

    def __init__(self, text: str, column: int, reason: str, suggestion: str = "") -> None:
        self.text = text
        self.column = max(1, min(column, len(text) + 1))
        """From 1, of the condition's text; one more than its length where something is missing at its end."""
        self.reason = reason
        self.suggestion = suggestion
        super().__init__(f"column {self.column}: {self.message}\n{self.caret}")

    @property
    def message(self) -> str:
        """What is wrong and what to write instead, without the position."""
        return f"{self.reason} ({self.suggestion})" if self.suggestion else self.reason

    @property
    def caret(self) -> str:
        """The condition, or the part of it around the position, and a line with a caret below the column."""
        first = max(0, self.column - CARET_WIDTH // 2) if len(self.text) > CARET_WIDTH else 0
        shown = "".join(c if c.isprintable() else " " for c in self.text[first : first + CARET_WIDTH])
        return f"{shown}\n{' ' * (self.column - 1 - first)}^"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelled name, or all names if none is near and they are few."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names) or 'none'}" if len(names) <= 24 else ""


def parse(text: str) -> ast.expr:
    """Return the syntax tree of a condition.

    Raises:
        ConditionError: the text is empty, too long, nested too deep, or not an expression.
    """
    _check_tokens(text)
    flat = re.sub(r"\s", " ", text)
    try:
        return ast.parse(flat.strip(), mode="eval").body
    except SyntaxError as error:
        column = len(text) - len(text.lstrip()) + max(1, error.offset or 1)
        raise ConditionError(text, column, "not understood from here on") from None
    except (ValueError, MemoryError, RecursionError):
        raise ConditionError(text, 1, "not an expression") from None


def column_of(text: str, offset: int) -> int:
    """The column in `text`, from 1, of a byte offset in the syntax tree that `parse` made of it."""
    before = text.strip().encode()[:offset].decode(errors="ignore")
    return len(text) - len(text.lstrip()) + len(before) + 1


def _check_tokens(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise ConditionError(text, MAX_LENGTH + 1, f"longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise ConditionError(text, 1, "empty", "leave the key out, or write what must hold")
    opened: list[tuple[str, int]] = []
    before = last = ""
    for count, (kind, word, at) in enumerate(_tokens(text)):
        if count >= MAX_TOKENS:
            raise ConditionError(text, at, f"more than {MAX_TOKENS} names, numbers, texts and signs")
        if kind == "text" and before == "text":
            raise ConditionError(text, at, "two texts side by side", "a comma is missing between them")
        if kind == "open":
            opened.append((word, at))
            if len(opened) > MAX_DEPTH:
                raise ConditionError(text, at, f"nested more than {MAX_DEPTH} deep")
        elif kind == "close" and (not opened or opened.pop()[0] + word not in ("()", "[]")):
            raise ConditionError(text, at, f"{word} closes nothing that is open here")
        before, last = kind, word
    if before == "sign" or last in ("and", "or", "not", "in"):
        raise ConditionError(text, len(text.rstrip()) + 1, f"something is missing behind {last}")
    if opened:
        raise ConditionError(text, opened[-1][1], f"{opened[-1][0]} is never closed")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and column of each token; spaces are left out."""
    at, end_of_word = 0, -1
    while at < len(text):
        match = _TOKEN.match(text, at)
        kind = "" if match is None else str(match.lastgroup)
        word = text[at] if match is None else match.group()
        if kind in ("", "wrong") or (kind == "word" and word not in _WORDS):
            _check_word(text, word, at + 1, name=kind == "word")
        if kind == "text":
            if at == end_of_word:
                raise ConditionError(text, at + 1, "a text right behind a word", "texts have no prefix")
            _check_text(text, word, at + 1)
        if kind != "space":
            yield kind, word, at + 1
        at += len(word)
        end_of_word = at if kind == "word" and word not in _WORDS else -1


def _check_word(text: str, word: str, column: int, *, name: bool) -> None:
    """Raise what is wrong with a word or sign that is no part of the language."""
    if name and not (word in _ADVICE or keyword.iskeyword(word) or word.startswith("_")):
        return
    if word in ("'", '"'):
        raise ConditionError(text, column, f"the text that begins here has no closing {word}")
    if not name and word in "0123456789.":
        raise ConditionError(text, column, "not a number", "write numbers as 5, 0.5 or 1e3")
    if name and word.startswith("_"):
        raise ConditionError(text, column, f"{word} is no name", "names begin with a letter")
    shown = word if word.isascii() and word.isprintable() else f"the character U+{ord(word[0]):04X}"
    raise ConditionError(text, column, f"{shown} is not part of the language of conditions", _ADVICE.get(word, ""))


def _check_text(text: str, quoted: str, column: int) -> None:
    for index, character in enumerate(quoted):
        if character == "\\":
            raise ConditionError(text, column + index, "a backslash in a text", _ADVICE["\\"])
        if not character.isprintable():
            raise ConditionError(text, column + index, f"the character U+{ord(character):04X} in a text")
