"""Computes with values of which some are unknown: the closures that conditions are made of. Pure.

None is *unknown*: a value that is missing, of the wrong type, not a number (NaN), or divided by zero. An unknown
operand makes arithmetic and comparisons unknown. ``and``, ``or`` and ``not`` follow Kleene's strong logic: ``False and
unknown`` is False, ``True or unknown`` is True, all else with an unknown is unknown. Nothing here raises.

Source: S. C. Kleene, *Introduction to Metamathematics* (1952), section 64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from numbers import Real
from typing import Any

Values = Mapping[str, Any]
"""What the names of a condition stand for: numbers, texts, booleans, lists, and maps of these."""
Run = Callable[[Values], Any]
"""Returns the value of a part of a condition; None: unknown."""
Operation = Callable[[Any, Any], Any]


class Kind(StrEnum):
    """Types of values; values of two kinds are never equal, and have no order."""

    NUMBER = "a number"
    TEXT = "a text"
    TRUTH = "true or false"


_NUMBER, _TEXT, _TRUTH = Kind.NUMBER, Kind.TEXT, Kind.TRUTH
"""Looking up a member of an enumeration costs more than a comparison."""
_KINDS = {bool: _TRUTH, int: _NUMBER, float: _NUMBER, str: _TEXT}


def kind_of(value: Any) -> Kind | None:
    """The kind of a value; None: unknown, a list or a map. Numbers of NumPy are numbers."""
    kind = _KINDS.get(type(value))
    if kind is None and value is not None and isinstance(value, Real):
        kind = _NUMBER
    return None if kind is _NUMBER and value != value else kind


def constant(value: Any) -> Run:
    """Always `value`."""
    return lambda values: value


def named(name: str) -> Run:
    """The value of a name."""
    return lambda values: values.get(name)


def field(of: Run, name: str) -> Run:
    """A field of a map."""

    def run(values: Values) -> Any:
        found = of(values)
        return found.get(name) if isinstance(found, dict) else None

    return run


def every(parts: list[Run]) -> Run:
    """Whether all parts are true."""
    return _unless(parts, decides=False)


def some(parts: list[Run]) -> Run:
    """Whether one part at least is true."""
    return _unless(parts, decides=True)


def _unless(parts: list[Run], *, decides: bool) -> Run:
    """`decides` if one part is so, its opposite if all are that, else unknown."""
    other = not decides

    def run(values: Values) -> bool | None:
        known: bool | None = other
        for part in parts:
            found = part(values)
            if found is decides:
                return bool(decides)
            if found is not other:
                known = None
        return known

    return run


def negation(of: Run) -> Run:
    """The opposite; that of unknown is unknown."""

    def run(values: Values) -> bool | None:
        found = of(values)
        return not found if found is True or found is False else None

    return run


def arithmetic(operation: Callable[..., Any], operands: list[Run]) -> Run:
    """`operation` on numbers."""

    def run(values: Values) -> Any:
        numbers = [operand(values) for operand in operands]
        for number in numbers:
            if kind_of(number) is not _NUMBER:
                return None
        try:
            return operation(*numbers)
        except ArithmeticError:  # a division by zero, a result that no float holds
            return None

    return run


def comparison(operation: Operation, left: Run, right: Run, *, ordered: bool) -> Run:
    """Compare two values of one kind; `ordered`: True and False have no order."""

    def run(values: Values) -> bool | None:
        first, second = left(values), right(values)
        kind = kind_of(first)
        if kind is None or kind is not kind_of(second) or (ordered and kind is _TRUTH):
            return None
        return bool(operation(first, second))

    return run


def member(of: Run, kind: Kind, items: frozenset[Any]) -> Run:
    """Whether a value is one of `items`, all of which are of `kind`."""

    def run(values: Values) -> bool | None:
        found = of(values)
        return found in items if kind_of(found) is kind else None

    return run


def contained(item: Run, within: Run) -> Run:
    """Whether a list has an item, or a text has another in it."""

    def run(values: Values) -> bool | None:
        one, found = item(values), within(values)
        kind = kind_of(one)
        if isinstance(found, str):
            return one in found if kind is _TEXT else None
        if kind is None or not isinstance(found, list | tuple):
            return None
        return any(kind_of(each) is kind and each == one for each in found)

    return run


def overlap(within: Run, items: frozenset[str]) -> Run:
    """Whether a list has one at least of `items`."""

    def run(values: Values) -> bool | None:
        found = within(values)
        return any(each in items for each in found) if isinstance(found, list | tuple) else None

    return run


def length(of: Run) -> Run:
    """Items of a list, characters of a text."""

    def run(values: Values) -> int | None:
        found = of(values)
        return len(found) if isinstance(found, list | tuple | str) else None

    return run
