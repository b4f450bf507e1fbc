"""Counts of a value by its size, which grow from message to message as every counter does."""

from __future__ import annotations

from pydantic import Field

from hams_shared.wire.messages.base import Wire


class Histogram(Wire):
    """How many values fell in which bucket since their source began to count, and their sum.

    It carries its edges: a reader of another version has no list of its own.
    """

    edges: tuple[float, ...] = Field(description="of the buckets but the last, ascending; a bucket holds its edge")
    counts: tuple[int, ...] = Field(description="by bucket; the last holds what is above all edges")
    sum: float = 0.0
