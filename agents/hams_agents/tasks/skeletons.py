"""Which key points are joined by lines: skeletons for drawing.

The skeleton of COCO's persons (17 points) and of mediapipe's (33) is known to everything that draws; results name
pairs only where a task's parameters do.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hams_shared.errors import TaskError

Index = Annotated[int, Field(ge=0)]
Skeleton = tuple[tuple[Index, Index], ...] | None


def joined(task: str, skeleton: Skeleton, points: int) -> Skeleton:
    """Return `skeleton` once it has been checked. Raises TaskError: it joins what is no point."""
    wrong = [pair for pair in skeleton or () if max(pair) >= points]
    if wrong:
        raise TaskError(f"task {task}: skeleton joins {list(wrong[0])}, the points are 0 to {points - 1}")
    return skeleton
