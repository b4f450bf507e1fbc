"""The language of conditions: what is in it, what is unknown, where a mistake is, and that it agrees with Python."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_shared.group.condition_text import MAX_DEPTH, MAX_LENGTH, MAX_TOKENS
from hams_shared.group.expressions import ConditionError, Fields, Refused, Shape, Texts, compile_condition
from hams_shared.group.three_valued import Kind

ZONES = frozenset({"gate", "yard"})
NAMES: dict[str, Shape] = {
    "score": Kind.NUMBER,
    "label": Kind.TEXT,
    "predicted": Kind.TRUTH,
    "box": Fields({"height": Kind.NUMBER, "width": Kind.NUMBER}),
    "zone": Texts(ZONES, each=True),
    "zones": Texts(ZONES),
    "gender": Fields({"embedding": Refused("no embeddings", "use identity")}, open=True),
    "age-v2": Fields({}, open=True),
    "max": Fields({}, open=True),
    "later": Refused("later runs later"),
}
VALUES: dict[str, Any] = {
    "score": 0.75,
    "label": "car",
    "predicted": False,
    "box": {"height": 100, "width": 50.0},
    "zone": ["gate"],
    "zones": ["gate"],
    "gender": {"label": "female", "score": 0.9, "points": [[1, 2]], "tags": ["a", 2], "sure": True},
    "age-v2": {"value": 31.5},
    "max": {"value": 3},
}


def value(text: str, values: dict[str, Any] | None = None) -> bool | None:
    return compile_condition(text, NAMES).value(VALUES if values is None else values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("score > 0.6 and label in ['car', 'truck'] and box.height > 80 and zone == 'gate'", True),
        ("score > 0.6 and not label == 'car'", False),
        ("not predicted", True),
        ("predicted == False", True),
        ("0.5 < score <= 0.75 < 1", True),
        ("0.5 < score > 0.8", False),
        ("label not in ('car', 'truck')", False),
        ("label in ('car',)", True),
        ("score in [0.75, 1]", True),
        ("predicted in [True]", False),
        ("'gate' in zones", True),
        ("'yard' not in zones", True),
        ("label in zones", False),
        ("'fem' in gender.label", True),
        ("2 in gender.tags", True),
        ("len(zones) == 1 and len(label) == 3 and len(gender.points) == 1", True),
        ("box.height * 2 - box.width / 2 == 175 and box.height % 7 == 2", True),
        ("-score < 0 < +score", True),
        ("abs(-3) == 3 and min(1, score) == score and max(1, 2, 3) == 3", True),
        ("max.value == max(1, 3)", True),
        ("age_v2.value > 18", True),
        ("gender.label == 'female' and gender.score > .5e0", True),
        ('label == "car"', True),
        ("label < 'cat'", True),
        ("gender.sure and True", True),
        ("(((score)))\n  > 0.5\nor predicted", True),
        ("zone == 'yard'", False),
        ("zone != 'yard'", True),
        ("'gate' == zone", True),
        ("zone == label", False),
        ("zone in ['yard', 'gate']", True),
        ("zone not in ['yard']", True),
    ],
)
def test_the_grammar(text: str, expected: bool) -> None:
    condition = compile_condition(text, NAMES)
    assert (condition.value(VALUES), condition.holds(VALUES)) == (expected, expected)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("gender.label == 'female'", {}, None),
        ("not gender.label == 'female'", {}, None),
        ("gender.label != 'female'", {}, None),
        ("gender.label == 'female' or score > 0.5", {"score": 0.9}, True),
        ("gender.label == 'female' or score > 0.5", {"score": 0.1}, None),
        ("gender.label == 'female' and score > 0.5", {"score": 0.1}, False),
        ("gender.label == 'female' and score > 0.5", {"score": 0.9}, None),
        ("gender.label in ['female']", {}, None),
        ("gender.label not in ['female']", {}, None),
        ("gender.a.b.c > 1", {"gender": {"a": 3}}, None),
        ("gender.value > 18", {"gender": {"value": "old"}}, None),
        ("gender.value == 18", {"gender": {"value": "18"}}, None),
        ("gender.value != 18", {"gender": {"value": "18"}}, None),
        ("gender.value == True", {"gender": {"value": 1}}, None),
        ("gender.value > gender.least", {"gender": {"value": True, "least": False}}, None),
        ("gender.value + 1 > 0", {"gender": {"value": True}}, None),
        ("gender.value == 1", {"gender": {"value": None}}, None),
        ("gender.value == 1", {"gender": {"value": [1]}}, None),
        ("gender.value", {"gender": {"value": 1}}, None),
        ("gender.value or True", {"gender": {"value": 1}}, True),
        ("gender.value and False", {"gender": {"value": 1}}, False),
        ("not gender.value", {"gender": {"value": 0}}, None),
        ("1 in gender.value", {"gender": {"value": 7}}, None),
        ("1 in gender.value", {"gender": {"value": "1"}}, None),
        ("1 in gender.value", {"gender": {"value": [True, "1"]}}, False),
        ("len(gender.value) > 0", {"gender": {"value": {}}}, None),
        ("1 / score > 0", {"score": 0}, None),
        ("1 % score > 0", {"score": 0.0}, None),
        ("score * score > 0", {"score": 10**300 + 0.0}, True),
        ("score / 3 > 0", {"score": 10**400}, None),
        ("score > 0", {"score": float("nan")}, None),
        ("score != score", {"score": float("nan")}, None),
        ("score - score == 0", {"score": float("inf")}, None),
        ("max(score, 1) > 0", {}, None),
        ("zone == 'gate'", {}, None),
        ("zone != 'gate'", {}, None),
        ("zone == 'gate'", {"zone": []}, False),
        ("zone != 'gate'", {"zone": []}, True),
        ("zone in ['gate']", {"zone": 3}, None),
        ("zone == gender.label", {"zone": ["gate"], "gender": {"label": "gate"}}, True),
        ("score > 0.5 and box.height > 3", {"score": np.float32(0.75), "box": {"height": np.int64(4)}}, True),
    ],
)
def test_what_is_unknown(text: str, values: dict[str, Any], expected: bool | None) -> None:
    condition = compile_condition(text, NAMES)
    assert condition.value(values) is expected
    assert condition.holds(values) is (expected is True)


@pytest.mark.parametrize("first", [True, False, None])
@pytest.mark.parametrize("second", [True, False, None])
def test_tables_of_kleene(first: bool | None, second: bool | None) -> None:
    values = {"gender": {"a": first, "b": second}}
    order = [False, None, True]
    both = order[min(order.index(first), order.index(second))]
    either = order[max(order.index(first), order.index(second))]
    assert value("gender.a and gender.b", values) is both
    assert value("gender.a or gender.b", values) is either
    assert value("not gender.a", values) is (None if first is None else not first)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("scor > 1", 1, "unknown name scor (did you mean score?)"),
        ("score > 0.5 and\n  labl == 'x'", 19, "unknown name labl (did you mean label?)"),
        ("label == 'Fußgänger' and scor > 1", 26, "unknown name scor (did you mean score?)"),
        ("  Score > 1", 3, "unknown name Score (did you mean score?)"),
        ("height > 1", 1, "unknown name height (did you mean box.height?)"),
        ("box.hight > 1", 5, "box has no field hight (did you mean height?)"),
        ("score < true", 9, "unknown name true (write True)"),
        ("age-v2.value > 1", 1, "unknown name age (write age_v2 for age-v2: - is minus)"),
        ("score > 1 and later.value > 1", 15, "later runs later"),
        ("gender.embedding == 1", 8, "no embeddings (use identity)"),
        ("gender == 'f'", 1, "gender has fields (write one of them, such as gender.label)"),
        ("box > 1", 1, "box has fields (write one of them, such as box.height)"),
        ("label.x == 1", 7, "label is a text and has no fields"),
        ("zone.x == 1", 6, "zone is a list of texts and has no fields"),
        ("score = 1", 7, "= is not part of the language of conditions (write == to compare)"),
        ("score === 1", 7, "=== is not part of the language of conditions (write == to compare)"),
        ("score => 1", 7, "=> is not part of the language of conditions (write >=)"),
        ("score <> 1", 7, "<> is not part of the language of conditions (write !=)"),
        ("predicted && True", 11, "&& is not part of the language of conditions (write and)"),
        ("!predicted", 1, "! is not part of the language of conditions (write not)"),
        ("predicted AND True", 11, "AND is not part of the language of conditions (write and)"),
        ("score is 1", 7, "is is not part of the language of conditions (write == or !=)"),
        ("score >> 1 > 2", 1, "an operator that is not part of the language of conditions"),
        ("score > ", 8, "something is missing behind >"),
        ("score > 1 and", 14, "something is missing behind and"),
        ("(score > 1", 1, "( is never closed"),
        ("score > 1)", 10, ") closes nothing that is open here"),
        ("label in ['a')", 14, ") closes nothing that is open here"),
        ("label == 'a", 10, "the text that begins here has no closing '"),
        ("label == 'a\tb'", 12, "the character U+0009 in a text"),
        ("label == 'a\\n'", 12, "a backslash in a text (texts have no escapes; "),
        ("label in ['car' 'bus']", 17, "two texts side by side (a comma is missing between them)"),
        ("label == '''a'''", 12, "two texts side by side"),
        ("score 1", 7, "not understood from here on"),
        ("score > 1_000", 9, "not a number (write numbers as 5, 0.5 or 1e3)"),
        ("score > 0x10", 9, "not a number"),
        ("score > 1e999", 9, "a number above 1e+15"),
        ("score > 1 # at night", 11, "# is not part of the language of conditions (there are no comments"),
        ("", 1, "empty (leave the key out, or write what must hold)"),
        (" \n", 1, "empty"),
        ("score", 1, "a number where true or false is needed (compare it with something)"),
        ("zone", 1, "a list of texts where true or false is needed (compare it with something)"),
        ("predicted and label", 15, "a text where true or false is needed (compare it with something)"),
        ("score > 'a'", 9, "a number is compared with a text"),
        ("0 < score < 'a'", 13, "a number is compared with a text"),
        ("predicted < True", 13, "true and false have no order (write == or !=)"),
        ("label + 'x' == 'carx'", 1, "a text where a number is needed"),
        ("label * 9 == 'x'", 1, "a text where a number is needed"),
        ("'%s' % label == 'x'", 1, "a text where a number is needed"),
        ("score in [1, 'a']", 14, "a number and a text in one list"),
        ("score in ['a']", 10, "a number is looked for in a list of texts"),
        ("score in []", 10, "an empty list"),
        ("score in [1, score]", 14, "an item of a list is a number, a text, True or False"),
        ("label in ('car')", 11, "a text where a list is needed (write ['car'])"),
        ("score in 5", 10, "a number where a list is needed"),
        ("score in zones", 1, "a number where a text is needed"),
        ("zones in ['gate']", 10, "a list of texts is looked for in a list of texts (write 'TEXT' in zones)"),
        ("score in [True]", 10, "a number is looked for in a list of truth values"),
        ("zone in zones", 1, "zone is a list of texts (write 'TEXT' in zone)"),
        ("zones == 'gate'", 1, "zones is a list of texts (write 'TEXT' in zones)"),
        ("zone < 'gate'", 1, "zone has no order (write == or !=)"),
        ("zone == 3", 9, "zone is compared with a number (write a text)"),
        ("zone == 'gaet'", 9, "'gaet' is never in zone (did you mean gate?)"),
        ("zone in ['gate', 'yrad']", 18, "'yrad' is never in zone (did you mean yard?)"),
        ("'x' in zones", 1, "'x' is never in zones (known: gate, yard)"),
        ("foo(1) > 1", 1, "unknown function foo (known: abs, len, max, min)"),
        ("mix(1, 2) > 1", 1, "unknown function mix (did you mean min?)"),
        ("label.lower() == 'a'", 1, "unknown function label.lower"),
        ("min(1) > 2", 1, "min takes 2 to 16 arguments"),
        ("abs(1, 2) > 2", 1, "abs takes 1 argument"),
        ("len(score) > 1", 5, "a number has no length"),
        ("gender.points[0] == 1", 1, "[…] behind a name is not part of the language of conditions"),
        ("score == [1]", 10, "a list here is not part of the language of conditions (lists stand behind in)"),
    ],
)
def test_where_a_mistake_is(text: str, column: int, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, NAMES)
    error = caught.value
    assert (error.column, error.message[: len(message)]) == (column, message)
    assert str(error).startswith(f"column {column}: {error.message}\n")


def test_the_caret_stands_below_the_mistake() -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition("score > 1 and\nlabl == 'x'", NAMES)
    assert caught.value.caret == "score > 1 and labl == 'x'\n              ^"
    with pytest.raises(ConditionError) as caught:
        compile_condition(f"{'score > 1 or ' * 30}labl == 'x' or {'score > 1 or ' * 30}predicted", NAMES)
    shown, caret = caught.value.caret.split("\n")
    assert shown[caret.index("^") :].startswith("labl == 'x'")
    assert len(shown) == 100


HOSTILE = {
    "power": "9**9**9 > 1",
    "power of names": "score ** score > 1",
    "shift": "1 << 999999999 > 1",
    "repeated text": "'a' * 1000000000 == label",
    "long number": f"score > {'9' * 1500}",
    "long text": f"label == '{'a' * MAX_LENGTH}'",
    "long name": f"{'a' * 1900} > 1",
    "long": "score > 1 or " * 1000,
    "brackets": "(" * 1000 + "score" + ")" * 900,
    "lists": "label in " + "[" * 1000,
    "calls": "abs(" * 300 + "1" + ")" * 300 + " > 1",
    "minus": "-" * 1900 + "1 > 0",
    "not": "not " * 400 + "predicted",
    "sum": "+".join(["score"] * 200) + " > 1",
    "fields": "gender" + ".a" * 200 + " == 1",
    "many": " or ".join(["predicted"] * 300),
    "class": "score.__class__.__bases__ == 1",
    "of a list": "().__class__ == 1",
    "hidden field": "gender._x == 1",
    "import": "__import__('os').system('x') == 0",
    "lambda": "(lambda: True)()",
    "comprehension": "[x for x in zones]",
    "generator": "any(x == 'a' for x in zones)",
    "f-string": "f'{score}' == 'a'",
    "bytes": "b'a' == label",
    "walrus": "(x := score) > 1",
    "if": "predicted if predicted else predicted",
    "await": "await predicted",
    "yield": "(yield predicted)",
    "statement": "predicted; import os",
    "assignment": "score == 1\nscore = 2",
    "decorator": "@predicted",
    "set": "score in {1, 2}",
    "map": "score in {'a': 1}",
    "star": "min(*zones) > 1",
    "keyword": "min(a=1, b=2) > 1",
    "slice": "zones[0:1] == 1",
    "ellipsis": "... == score",
    "complex": "1j == score",
    "unicode name": "ſcore > 1",
    "letters that look alike": "sсore > 1",
    "full width": "ｓcore > 1",
    "sign that cannot be seen": "score\u200b > 1",
    "from right to left": "score > 1 \u202e",
    "surrogate": "label == '\ud800'",
    "nul": "score > 1\0",
    "nul in a text": "label == '\0'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, NAMES)
    assert 1 <= caught.value.column <= len(text) + 1
    assert len(caught.value.caret) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * (MAX_DEPTH + 1) + "predicted" + ")" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
        ("not " * MAX_DEPTH + "predicted", f"nested more than {MAX_DEPTH} deep"),
        ("score > 0 " + "+ 1" * (MAX_TOKENS // 2), f"more than {MAX_TOKENS} names"),
        ("predicted" + " " * MAX_LENGTH, f"longer than {MAX_LENGTH} characters"),
    ],
)
def test_bounds(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        compile_condition(text, NAMES)


def test_the_bounds_are_wide_enough() -> None:
    labels = ", ".join(f"'label-{number}'" for number in range(100))
    assert value(f"label not in [{labels}]")
    assert value("(" * 20 + "score" + ")" * 20 + " > 0")
    assert value(" and ".join(["score > 0"] * 50))


def test_the_names_that_a_condition_uses() -> None:
    condition = compile_condition("age_v2.value > 1 and (gender.label == 'a' or age_v2.value < 5)", NAMES)
    assert condition.uses == {"age-v2": 1, "gender": 23}
    assert condition.names == {"age-v2", "gender"}


# ── agreement with Python, on what both know ─────────────────────────────────────────────────────────────────────────
NUMBERS = st.one_of(
    st.integers(0, 200).map(str),
    st.floats(0, 100).map(lambda number: f"{number:.2f}"),
    st.sampled_from(["score", "box.height", "box.width", "gender.score", "len(label)", "len(zones)"]),
)
TEXTS = st.sampled_from(["label", "gender.label", "'car'", "'gate'", "''", '"female"'])
TRUTHS = st.sampled_from(["predicted", "gender.sure", "True", "False"])


def wrapped(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return parts.map(lambda text: f"({text})")


def numbers() -> st.SearchStrategy[str]:
    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, st.sampled_from("+-*/%"), inner).map(" ".join),
            st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
            inner.map(lambda text: f"abs({text})"),
            wrapped(inner).map(lambda text: f"-{text}"),
            wrapped(inner),
        )

    return st.recursive(NUMBERS, larger, max_leaves=5)


def truths() -> st.SearchStrategy[str]:
    signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    among = st.sampled_from(["in", "not in"])
    leaves = st.one_of(
        TRUTHS,
        st.tuples(numbers(), signs, numbers()).map(" ".join),
        st.tuples(numbers(), signs, numbers(), signs, numbers()).map(" ".join),
        st.tuples(TEXTS, signs, TEXTS).map(" ".join),
        st.tuples(TEXTS, among, st.sampled_from(["zones", "gender.tags", "['car', 'bus']", "('gate',)"])).map(" ".join),
        st.tuples(numbers(), among, st.sampled_from(["[1, 2.5, -3]", "(0, 100)"])).map(" ".join),
    )

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
            inner.map(lambda text: f"not {text}"),
            st.tuples(wrapped(inner), st.sampled_from(["==", "!="]), wrapped(inner)).map(" ".join),
            wrapped(inner),
        )

    return st.recursive(leaves, larger, max_leaves=6)


def by_python(text: str, values: dict[str, Any]) -> bool | None:
    """What Python's own `eval` gives; None where it divides by zero."""
    spaces = {name: SimpleNamespace(**of) if isinstance(of, dict) else of for name, of in values.items()}
    try:
        found = eval(text, {"__builtins__": {}, "abs": abs, "min": min, "max": max, "len": len} | spaces)
    except ZeroDivisionError:
        return None
    assert isinstance(found, bool)
    return found


PLAIN = {name: of for name, of in VALUES.items() if name not in ("max", "age-v2")}
SOME = st.fixed_dictionaries(
    {
        "score": st.floats(0, 1),
        "label": st.sampled_from(["car", "gate", "", "bus"]),
        "predicted": st.booleans(),
        "box": st.fixed_dictionaries({"height": st.integers(0, 200), "width": st.floats(0, 200)}),
        "zones": st.lists(st.sampled_from(sorted(ZONES)), max_size=2),
        "gender": st.fixed_dictionaries({
            "label": st.sampled_from(["female", "male"]),
            "score": st.floats(0, 1),
            "tags": st.just(["car", "a"]),
            "sure": st.booleans(),
        }),
    }
)  # fmt: skip
LOOSE: dict[str, Shape] = NAMES | {"zones": Texts()}


@given(truths(), SOME)
def test_it_computes_what_python_computes(text: str, values: dict[str, Any]) -> None:
    condition = compile_condition(text, LOOSE)
    expected = by_python(text, values)
    if expected is not None:
        assert condition.value(values) is expected
    assert condition.holds(values) in (True, False)


@given(truths(), SOME, st.sets(st.sampled_from(sorted(PLAIN))))
def test_what_is_known_without_a_value_holds_whatever_the_value_is(
    text: str, values: dict[str, Any], missing: set[str]
) -> None:
    condition = compile_condition(text, LOOSE)
    partly = condition.value({name: of for name, of in values.items() if name not in missing})
    assert partly is None or partly is condition.value(values)


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["label", "score", "tags"]), inner),
    max_leaves=5,
)


@given(truths(), st.dictionaries(st.sampled_from(sorted(NAMES)), ANY_VALUE))
def test_no_value_makes_it_raise(text: str, values: dict[str, Any]) -> None:
    assert compile_condition(text, LOOSE).value(values) in (True, False, None)


WORDS = st.sampled_from(
    [*"()[]{}.,+-*/%<>=!'\"\\ \n#:@~\0é", "and ", "or ", "not ", "in ", "is ", "if ", "else ", "lambda ", "for ",
     "score", "label", "zone", "zones", "gender", "box.height", "len(", "1", "1e9", "'a'", "True", "=="]
)  # fmt: skip


@given(st.lists(WORDS, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_a_condition_or_a_named_error(text: str) -> None:
    try:
        condition = compile_condition(text, NAMES)
    except ConditionError as error:
        assert 1 <= error.column <= len(text) + 1
        assert error.caret.count("\n") == 1
    else:
        assert condition.value(VALUES) in (True, False, None)


def test_evaluation_is_not_deeper_than_the_text() -> None:
    condition = compile_condition("not " * (MAX_DEPTH - 1) + "predicted", NAMES)
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len_of_stack() + 3 * MAX_DEPTH)
        assert condition.value(VALUES) is True
    finally:
        sys.setrecursionlimit(limit)


def len_of_stack() -> int:
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1  # type: ignore[assignment]
    return count
