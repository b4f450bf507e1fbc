"""Names of classes and shapes of points: from a task's parameters, else from the network file's metadata."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hams_agents.tasks.base import TaskContext
from hams_agents.tasks.decoding import did_you_mean
from hams_shared.errors import TaskError

METADATA_KEY = "names"
"""Where Ultralytics writes them into the file: ``{0: 'person', 1: 'bicycle'}``."""
LONGEST = 1 << 21
"""Characters of a value of metadata that is parsed: a longer one would take the memory and the time of its reader."""

Labels = TypeVar("Labels", dict[int, str] | tuple[str, ...], tuple[str, ...])


def names_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the classes' names that a network file holds, in order; empty: it holds none."""
    value = _literal(metadata.get(METADATA_KEY, ""))
    if isinstance(value, dict) and value.keys() == set(range(len(value))):
        value = [value[i] for i in range(len(value))]
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def point_shape(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Return how many points an object has, and how many numbers a point, by Ultralytics' ``kpt_shape``, or None."""
    value = _literal(metadata.get("kpt_shape", ""))
    fits = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value)
    return (value[0], value[1]) if fits else None


def _literal(text: str) -> Any:
    """Return the value that `text` writes in Python's notation; None: it writes none."""
    try:
        return ast.literal_eval(text) if len(text) <= LONGEST else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def labels_of(task: str, labels: Labels, context: TaskContext) -> Labels:
    """Return `labels`, or where there are none those of the file. Raises TaskError: there are none either."""
    if labels:
        return labels
    found = names_in(context.metadata)
    if not found:
        raise TaskError(
            f"task {task}: the network file does not name its classes (metadata {METADATA_KEY!r})",
            "give them under `labels`, in the order of the network's classes",
        )
    return found


def wanted(task: str, names: Mapping[int, str], only: Sequence[str]) -> dict[int, str]:
    """Return those of `names` that `only` lists; empty: all. Raises TaskError: it lists another."""
    unknown = sorted(set(only) - set(names.values()))
    if unknown:
        raise TaskError(
            f"task {task}: only names what labels does not: {', '.join(unknown)}",
            did_you_mean(unknown[0], set(names.values())),
        )
    return {number: name for number, name in names.items() if not only or name in only}
