"""A short text for OpenVINO's error when it cannot convert a network."""

from __future__ import annotations

import re

_UNKNOWN = re.compile(r"No conversion rule found for operations: (.+?)(?=\s+(?:To facilitate|--|\[)|$)", re.DOTALL)


def unknown_operators(error: BaseException) -> str | None:
    """Name the operators that no rule is known for, and what helps; None when `error` is about something else."""
    found = _UNKNOWN.search(str(error))
    if found is None:
        return None
    return f"OpenVINO does not know {' '.join(found[1].split())} (`outputs` of a node cuts the network before it)"
