"""Checks a file that a person wrote, by pydantic: the base of its models, and texts for what is wrong, in its terms."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from hams_shared.errors import Finding

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,47}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
SHA384_PATTERN = r"^[0-9a-f]{96}$"
MOST = 50
"""Most findings in one text."""

_PATTERNS = {
    NAME_PATTERN: "must be lower case letters, digits, - and _, a letter first, 48 at most",
    SHA256_PATTERN: "must be 64 hexadecimal digits, in lower case",
    SHA384_PATTERN: "must be 96 hexadecimal digits, in lower case",
}
_TYPES = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
    "string_type": "must be a text",
}


class Strict(BaseModel):
    """Base of all spec parts: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` and ``on`` as truth, which pydantic would take for 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {kind, *get_args(kind)} & {int, float}:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value


class Fault(NamedTuple):
    """What is wrong with parts of a file that do not go together: found by a check of the whole."""

    path: tuple[str | int, ...]
    """Keys and list indexes of the part to change, from the top of what is checked."""
    text: str
    column: int | None = None
    """In the value at `path`, a text: the character that is wrong, from 1."""


def refused(faults: Sequence[Fault]) -> PydanticCustomError:
    """The error that a validator of the whole raises; `describe_all` takes it apart again."""
    texts = [f"{'.'.join(map(str, path))}: {f'column {at}: ' if at else ''}{text}" for path, text, at in faults]
    context = {"text": "; ".join(texts), "faults": [tuple(fault) for fault in faults]}
    return PydanticCustomError("faults", "{text}", context)


def _apart(findings: Iterable[ErrorDetails]) -> Iterable[tuple[ErrorDetails, int | None]]:
    """Each finding with its column; those of a check of the whole one by one."""
    for finding in findings:
        if finding["type"] != "faults":
            yield finding, None
            continue
        for path, text, column in finding["ctx"]["faults"]:
            yield {**finding, "type": "fault", "loc": (*finding["loc"], *path), "msg": text}, column


def describe(finding: ErrorDetails) -> str:
    """One of pydantic's findings without its path: what the value must be."""
    kind = finding["type"]
    if kind == "string_pattern_mismatch":
        known = _PATTERNS.get(finding["ctx"]["pattern"])
        if known is not None:
            return known
    if kind in ("too_short", "too_long"):
        most = kind == "too_long"
        number = finding["ctx"]["max_length" if most else "min_length"]
        return f"must have at {'most' if most else 'least'} {number} entr{'y' if number == 1 else 'ies'}"
    text = _TYPES.get(kind) or re.sub(r"^Value error, |, unable to .*$", "", finding["msg"])
    return re.sub(r"^Input should (be|have) ", r"must \1 ", text)


def known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that `model` knows at `path`, in which names, indexes and pydantic's tags are passed over."""
    here, named = [model], False
    for part in path:
        fields = [] if named else [field for one in here if (field := one.model_fields.get(str(part))) is not None]
        here = [found for field in fields for found in _models(field.annotation)] or here
        named = any(get_origin(field.annotation) is dict for field in fields)  # the next part is a name, of any kind
    return list(here[0].model_fields) if len(here) == 1 else []


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All models that an annotation names, within containers and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _models(one)]


def _suggestion(finding: ErrorDetails, model: type[BaseModel] | None) -> str:
    if finding["type"] != "extra_forbidden" or model is None:
        return ""
    *around, key = finding["loc"]
    known = known_keys(model, around)
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})" if known else ""


def where(finding: ErrorDetails, otherwise: str) -> str:
    """The path of a finding, as a person sees it in a file, without pydantic's tags; `otherwise` for the whole."""
    parts = [str(part) for part in finding["loc"]]
    return ".".join(p for p in parts if p not in ("[key]", "bool") and not p.startswith("tuple[")) or otherwise


class Described(NamedTuple):
    """A finding in the terms of the file."""

    loc: tuple[str | int, ...]
    column: int | None
    """In the value there, from 1."""
    where: str
    text: str


def describe_each(
    findings: Iterable[ErrorDetails], otherwise: str, model: type[BaseModel] | None = None
) -> list[Described]:
    """All findings one by one; with suggestions for keys that `model` does not know."""
    return [
        Described(one["loc"], column, where(one, otherwise), f"{describe(one)}{_suggestion(one, model)}")
        for one, column in _apart(findings)
    ]


def describe_all(
    findings: Iterable[ErrorDetails],
    otherwise: str,
    model: type[BaseModel] | None = None,
    place: Callable[[tuple[str | int, ...], int | None], str] = lambda path, column: "",
) -> str:
    """All findings in one line, each with its `place`, which takes a path and perhaps a column of the value there."""
    return in_a_line(describe_each(findings, otherwise, model), place)


def in_a_line(found: Sequence[Described], place: Callable[[tuple[str | int, ...], int | None], str]) -> str:
    """What was found as one text; see :func:`describe_all`."""
    texts = [f"{place(one.loc, one.column)}{one.where}: {one.text}" for one in found[:MOST]]
    if len(found) > MOST:
        texts.append(f"and {len(found) - MOST} more")
    return "; ".join(texts)


_PLACED = re.compile(r"(?:^|; )line (\d+)(?:, column (\d+))?: ")


def findings_in(text: str) -> tuple[Finding, ...]:
    """Take a text such as ``line 3, column 7: not YAML; line 9: …`` apart; a text without lines is one finding."""
    starts = list(_PLACED.finditer(text))
    if not starts or starts[0].start():
        return (Finding(None, None, "", text),)
    ends = [*(one.start() for one in starts[1:]), len(text)]
    return tuple(
        Finding(int(one[1]), int(one[2]) if one[2] else None, "", text[one.end() : end])
        for one, end in zip(starts, ends, strict=True)
    )
