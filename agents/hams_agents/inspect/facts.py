"""The facts that are read from a network file, whatever its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hams_agents.tasks.base import TensorInfo

T = TypeVar("T")

MOST_VALUE = 20_000
"""Characters of one value of metadata that are kept."""
MOST_NAMES = 2_000_000
"""The same where it lists names of classes, or characters."""
MOST = 256
"""Entries of each list that are kept: files may have any number."""


@dataclass
class Facts:
    """See :func:`hams_agents.inspect.entry.read`."""

    format: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    parameters: int = 0
    """Numbers in its weights."""
    operators: Counter[str] = field(default_factory=Counter)
    """By type, those of inner graphs included."""
    made_by: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the format: ``{"IR": "8", "opset": "17", "com.microsoft": "1"}``."""
    files: dict[str, int] = field(default_factory=dict)
    """Name → bytes, of the network's files; -1: it is missing."""
    metadata: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return plain values; the most frequent operators come first."""
        ports = {
            kind: [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in tensors[:MOST]]
            for kind, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        return {
            "format": self.format,
            **ports,
            "parameters": self.parameters,
            "operators": dict(self.operators.most_common(MOST)),
            "made_by": self.made_by[:200],
            "versions": _first(self.versions),
            "files": _first(self.files),
            "metadata": _first({key: _cut(key, value) for key, value in self.metadata.items()}),
        }


def _first(entries: Mapping[str, T]) -> dict[str, T]:
    return dict(list(entries.items())[:MOST])


def _cut(key: str, value: str) -> str:
    return value[: MOST_NAMES if key in ("names", "character") else MOST_VALUE]
