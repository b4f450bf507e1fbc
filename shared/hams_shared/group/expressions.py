"""The language of conditions: a part of Python's expressions, checked when it is compiled, evaluated as closures. Pure.

A condition is compiled once, against a description of the names it may use; a mistake is a `ConditionError` with its
column. `Condition.holds` never raises: what is missing is unknown, and unknown is not true (see `three_valued`).
docs/conditions.md describes the language for those who write group files.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hams_shared.group import three_valued
from hams_shared.group.condition_text import MAX_DEPTH, ConditionError, column_of, did_you_mean, parse
from hams_shared.group.three_valued import Kind, Run, Values, kind_of

MAX_NUMBER = 1e15
"""Largest number in a condition."""


@dataclass(frozen=True)
class Texts:
    """A name that stands for a list of texts."""

    known: frozenset[str] | None = None
    """Texts that can be in it; None: any."""
    each: bool = False
    """Compared by its items: ``zone == 'gate'`` holds if one of them is ``'gate'``."""


@dataclass(frozen=True)
class Fields:
    """A name that stands for a map: its fields are used, not the map itself."""

    known: Mapping[str, Shape]
    open: bool = False
    """Whether it has further fields, of any type."""


@dataclass(frozen=True)
class Refused:
    """A name that exists and cannot be used in this condition."""

    reason: str
    suggestion: str = ""


Shape = Kind | Texts | Fields | Refused
"""What a name stands for."""


@dataclass(frozen=True)
class Condition:
    """A compiled condition."""

    text: str
    uses: Mapping[str, int]
    """Top-level names, each with the column of its first use."""
    _run: Run = field(repr=False, compare=False)

    @property
    def names(self) -> frozenset[str]:
        """The top-level names that it uses."""
        return frozenset(self.uses)

    def holds(self, values: Values) -> bool:
        """Whether it is known to be true of `values`: maps are dicts, lists are lists or tuples."""
        return self._run(values) is True

    def value(self, values: Values) -> bool | None:
        """True, False, or None: unknown."""
        found = self._run(values)
        return found if found is True or found is False else None


def compile_condition(text: str, names: Mapping[str, Shape]) -> Condition:
    """Compile `text`, which may refer to `names`; a name with ``-`` is written with ``_``.

    Raises:
        ConditionError: it is not in the language, refers to something else, or can never be true because of its types.
    """
    compiler = _Compiler(text, names)
    run = compiler.truth(parse(text))
    return Condition(text, compiler.uses, run)


@dataclass(frozen=True)
class _Part:
    """A compiled part of a condition."""

    run: Run
    shape: Shape | None
    """None: any type."""
    node: ast.expr


_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, three_valued.Operation]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "abs": (1, 1, abs),
    "min": (2, 16, min),
    "max": (2, 16, max),
    "len": (1, 1, len),
}
"""Least and most arguments; all but those of len are numbers."""


def _what(part: _Part) -> str:
    return str(part.shape) if isinstance(part.shape, Kind) else "a list of texts"


class _Compiler:
    def __init__(self, text: str, names: Mapping[str, Shape]) -> None:
        self._text = text
        self._names = dict(names)
        self._written = {name.replace("-", "_"): name for name in names} | {n: n for n in names if "-" not in n}
        self._depth = 0
        self.uses: dict[str, int] = {}

    def truth(self, node: ast.expr) -> Run:
        """Compile a part that is true or false."""
        part = self._value(node)
        if part.shape not in (Kind.TRUTH, None):
            self._fail(node, f"{_what(part)} where true or false is needed", "compare it with something")
        return part.run

    def _number(self, node: ast.expr) -> Run:
        part = self._value(node)
        if part.shape not in (Kind.NUMBER, None):
            self._fail(node, f"{_what(part)} where a number is needed")
        return part.run

    def _value(self, node: ast.expr) -> _Part:
        """Compile a part whose value is used."""
        part = self._part(node)
        if isinstance(part.shape, Fields):
            written = ast.unparse(node)
            known = sorted(name for name, shape in part.shape.known.items() if not isinstance(shape, Refused))
            such = f"{written}.{known[0]}" if known else f"{written}.label"
            self._fail(node, f"{written} has fields", self._minus(written) or f"write one of them, such as {such}")
        return part

    def _part(self, node: ast.expr) -> _Part:
        compiled = _PARTS.get(type(node))
        if compiled is None:
            what, suggestion = _OTHERS.get(type(node), (type(node).__name__, ""))
            self._fail(node, f"{what} is not part of the language of conditions", suggestion)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(node, f"nested more than {MAX_DEPTH} deep")
        part = compiled(self, node)
        self._depth -= 1
        return part

    def _fail(self, node: ast.expr, reason: str, suggestion: str = "", offset: int | None = None) -> NoReturn:
        column = column_of(self._text, node.col_offset if offset is None else offset)
        raise ConditionError(self._text, column, reason, suggestion)

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _name(self, node: ast.Name) -> _Part:
        name = self._written.get(node.id)
        if name is None:
            self._fail(node, f"unknown name {node.id}", self._instead(node.id))
        shape = self._usable(self._names[name], node, node.col_offset)
        self.uses.setdefault(name, column_of(self._text, node.col_offset))
        return _Part(three_valued.named(name), shape, node)

    def _usable(self, shape: Shape, node: ast.expr, offset: int) -> Shape:
        if isinstance(shape, Refused):
            self._fail(node, shape.reason, shape.suggestion, offset)
        return shape

    def _instead(self, word: str) -> str:
        """What to write instead of an unknown name."""
        if word in ("true", "false"):
            return f"write {word.capitalize()}"
        if minus := self._minus(word):
            return minus
        for name, shape in self._names.items():
            if isinstance(shape, Fields) and word in shape.known and not isinstance(shape.known[word], Refused):
                return f"did you mean {name}.{word}?"
        return did_you_mean(word, [w for w, n in self._written.items() if not isinstance(self._names[n], Refused)])

    def _minus(self, word: str) -> str:
        """What to write where `word` is the beginning of a name with ``-`` that the condition has; else nothing."""
        meant = [name for name in self._names if name.startswith(f"{word}-") and name in self._text]
        return f"write {meant[0].replace('-', '_')} for {meant[0]}: - is minus" if meant else ""

    def _attribute(self, node: ast.Attribute) -> _Part:
        of = self._part(node.value)
        offset = (node.end_col_offset or 0) - len(node.attr)
        written = ast.unparse(node.value)
        if of.shape is None:
            return _Part(three_valued.field(of.run, node.attr), None, node)
        if not isinstance(of.shape, Fields):
            self._fail(node, f"{written} is {_what(of)} and has no fields", "", offset)
        found = of.shape.known.get(node.attr)
        if found is None and not of.shape.open:
            self._fail(node, f"{written} has no field {node.attr}", did_you_mean(node.attr, of.shape.known), offset)
        shape = None if found is None else self._usable(found, node, offset)
        return _Part(three_valued.field(of.run, node.attr), shape, node)

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _constant(self, node: ast.Constant) -> _Part:
        kind = kind_of(node.value)
        if kind is None:
            self._fail(node, f"{ast.unparse(node)} is not part of the language of conditions")
        if isinstance(node.value, int | float) and abs(node.value) > MAX_NUMBER:
            self._fail(node, f"a number above {MAX_NUMBER:g}")
        return _Part(three_valued.constant(node.value), kind, node)

    def _unary(self, node: ast.UnaryOp) -> _Part:
        if isinstance(node.op, ast.Not):
            return _Part(three_valued.negation(self.truth(node.operand)), Kind.TRUTH, node)
        if not isinstance(node.op, ast.USub | ast.UAdd):
            self._fail(node, "~ is not part of the language of conditions", "write not")
        sign = operator.neg if isinstance(node.op, ast.USub) else operator.pos
        return _Part(three_valued.arithmetic(sign, [self._number(node.operand)]), Kind.NUMBER, node)

    def _binary(self, node: ast.BinOp) -> _Part:
        operation = _ARITHMETIC.get(type(node.op))
        if operation is None:
            self._fail(node, "an operator that is not part of the language of conditions")
        operands = [self._number(node.left), self._number(node.right)]
        return _Part(three_valued.arithmetic(operation, operands), Kind.NUMBER, node)

    def _boolean(self, node: ast.BoolOp) -> _Part:
        parts = [self.truth(value) for value in node.values]
        joined = three_valued.every(parts) if isinstance(node.op, ast.And) else three_valued.some(parts)
        return _Part(joined, Kind.TRUTH, node)

    def _call(self, node: ast.Call) -> _Part:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            known = did_you_mean(name, _FUNCTIONS) or f"known: {', '.join(sorted(_FUNCTIONS))}"
            self._fail(node.func, f"unknown function {ast.unparse(node.func)}", known)
        least, most, function = _FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            wanted = "1 argument" if most == 1 else f"{least} to {most} arguments"
            self._fail(node, f"{name} takes {wanted}")
        if name != "len":
            return _Part(
                three_valued.arithmetic(function, [self._number(argument) for argument in node.args]), Kind.NUMBER, node
            )
        of = self._value(node.args[0])
        if of.shape in (Kind.NUMBER, Kind.TRUTH):
            self._fail(of.node, f"{of.shape} has no length")
        return _Part(three_valued.length(of.run), Kind.NUMBER, node)

    # ── comparisons ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _compare(self, node: ast.Compare) -> _Part:
        """``a < b < c`` is ``a < b and b < c``."""
        links = []
        left = node.left
        for how, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(how, ast.In | ast.NotIn):
                link = self._membership(left, right)
                links.append(three_valued.negation(link) if isinstance(how, ast.NotIn) else link)
            elif type(how) in _COMPARISONS:
                links.append(self._comparison(left, *_COMPARISONS[type(how)], right))
            else:
                self._fail(right, "is is not part of the language of conditions", "write == or !=")
            left = right
        return _Part(links[0] if len(links) == 1 else three_valued.every(links), Kind.TRUTH, node)

    def _comparison(self, first: ast.expr, sign: str, operation: three_valued.Operation, second: ast.expr) -> Run:
        left, right = self._value(first), self._value(second)
        for texts, other in ((left, right), (right, left)):
            if isinstance(texts.shape, Texts):
                return self._of_texts(texts, sign, other)
        kinds = {part.shape for part in (left, right)} - {None}
        if len(kinds) > 1:
            self._fail(second, f"{left.shape} is compared with {right.shape}")
        ordered = sign not in ("==", "!=")
        if ordered and Kind.TRUTH in kinds:
            self._fail(second, "true and false have no order", "write == or !=")
        return three_valued.comparison(operation, left.run, right.run, ordered=ordered)

    def _of_texts(self, texts: _Part, sign: str, other: _Part) -> Run:
        """``zone == 'gate'``: one of them is."""
        shape, written = texts.shape, ast.unparse(texts.node)
        assert isinstance(shape, Texts)
        if not shape.each:
            self._fail(texts.node, f"{written} is a list of texts", f"write 'TEXT' in {written}")
        if sign not in ("==", "!="):
            self._fail(texts.node, f"{written} has no order", "write == or !=")
        if other.shape not in (Kind.TEXT, None):
            self._fail(other.node, f"{written} is compared with {_what(other)}", "write a text")
        self._check_known(written, shape, other.node)
        found = three_valued.contained(other.run, texts.run)
        return found if sign == "==" else three_valued.negation(found)

    def _check_known(self, written: str, shape: Texts, *items: ast.expr) -> None:
        """Refuse a text that can never be among those of `shape`."""
        for item in items:
            if shape.known is None or not isinstance(item, ast.Constant) or item.value in shape.known:
                continue
            self._fail(item, f"{item.value!r} is never in {written}", did_you_mean(str(item.value), shape.known))

    def _membership(self, first: ast.expr, second: ast.expr) -> Run:
        left = self._value(first)
        if isinstance(second, ast.List | ast.Tuple):
            return self._in_literal(left, second)
        right = self._value(second)
        if isinstance(left.shape, Texts):
            self._fail(first, f"{ast.unparse(first)} is a list of texts", f"write 'TEXT' in {ast.unparse(first)}")
        if isinstance(second, ast.Constant) and right.shape is Kind.TEXT:
            self._fail(second, "a text where a list is needed", f"write [{ast.unparse(second)}]")
        if right.shape in (Kind.NUMBER, Kind.TRUTH):
            self._fail(second, f"{right.shape} where a list is needed")
        if isinstance(right.shape, Texts | Kind) and left.shape not in (Kind.TEXT, None):
            self._fail(first, f"{left.shape} where a text is needed")
        if isinstance(right.shape, Texts):
            self._check_known(ast.unparse(second), right.shape, first)
        return three_valued.contained(left.run, right.run)

    def _in_literal(self, left: _Part, items: ast.List | ast.Tuple) -> Run:
        """A list that stands in the condition: its items are constants of one kind."""
        if not items.elts:
            self._fail(items, "an empty list")
        parts = [self._value(item) for item in items.elts]
        for part in parts:
            if not isinstance(part.node.operand if isinstance(part.node, ast.UnaryOp) else part.node, ast.Constant):
                self._fail(part.node, "an item of a list is a number, a text, True or False")
            if part.shape is not parts[0].shape:
                self._fail(part.node, f"{parts[0].shape} and {part.shape} in one list")
        kind = parts[0].shape
        assert isinstance(kind, Kind)
        known = frozenset(part.run({}) for part in parts)
        if isinstance(left.shape, Texts) and left.shape.each and kind is Kind.TEXT:
            self._check_known(ast.unparse(left.node), left.shape, *items.elts)
            return three_valued.overlap(left.run, known)
        if left.shape not in (kind, None):
            listed = "truth values" if kind is Kind.TRUTH else f"{kind.removeprefix('a ')}s"
            advice = f"write 'TEXT' in {ast.unparse(left.node)}" if isinstance(left.shape, Texts) else ""
            self._fail(items, f"{_what(left)} is looked for in a list of {listed}", advice)
        return three_valued.member(left.run, kind, known)


_PARTS: dict[type[ast.expr], Callable[[_Compiler, Any], _Part]] = {
    ast.Name: _Compiler._name,
    ast.Attribute: _Compiler._attribute,
    ast.Constant: _Compiler._constant,
    ast.UnaryOp: _Compiler._unary,
    ast.BinOp: _Compiler._binary,
    ast.BoolOp: _Compiler._boolean,
    ast.Compare: _Compiler._compare,
    ast.Call: _Compiler._call,
}
_OTHERS: dict[type[ast.expr], tuple[str, str]] = {
    ast.List: ("a list here", "lists stand behind in"),
    ast.Tuple: ("a list here", "lists stand behind in"),
    ast.Subscript: ("[…] behind a name", "write a field as name.field"),
    ast.Starred: ("*", "write the items"),
}
"""What people try, and what to write instead."""
