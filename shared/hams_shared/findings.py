"""What is wrong with a value that a person wrote, in that person's words; pydantic's are those of Python."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic_core import ErrorDetails

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,47}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
SHA384_PATTERN = r"^[0-9a-f]{96}$"

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


def told(finding: ErrorDetails) -> str:
    """One of pydantic's findings without its path: what the value must be."""
    kind = finding["type"]
    if kind == "string_pattern_mismatch":
        known = _PATTERNS.get(finding["ctx"]["pattern"])
        if known is not None:
            return known
    text = _TYPES.get(kind) or re.sub(r"^Value error, |, unable to .*$", "", finding["msg"])
    return re.sub(r"^Input should (be|have) ", r"must \1 ", text)


def where(finding: ErrorDetails, otherwise: str) -> str:
    """The path of a finding, as a person sees it in a file, without pydantic's tags; `otherwise` for the whole."""
    parts = [str(part) for part in finding["loc"]]
    return ".".join(p for p in parts if p not in ("[key]", "bool") and not p.startswith("tuple[")) or otherwise


def all_told(findings: Iterable[ErrorDetails], otherwise: str) -> str:
    """All findings in one line."""
    return "; ".join(f"{where(finding, otherwise)}: {told(finding)}" for finding in findings)
