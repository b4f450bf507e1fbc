"""Threads in which strategies run: questions of people never take those that groups wait for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hams_scheduler.planning import Solution, decide
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.errors import HamsError, as_hams_error

log = logging.getLogger("hams.scheduler")

R = TypeVar("R")

_SOLVERS = ThreadPoolExecutor(3, "solve")
"""For a solution, one that is kept ready, and one of an earlier term that has not ended."""
_ASKED = ThreadPoolExecutor(2, "what-if")
"""For questions: a long one does not hold up all others."""


async def decided(snapshot: PlanningSnapshot) -> tuple[Solution | None, HamsError | None]:
    """Run the solver in a thread; return its solution, or None and why there is none."""
    try:
        return await asyncio.get_running_loop().run_in_executor(_SOLVERS, decide, snapshot, time.time()), None
    except Exception as error:
        if not isinstance(error, HamsError):
            log.exception("solving failed")
        return None, as_hams_error(error)


async def asked(question: Callable[[], R]) -> R:
    """Return the answer to `question`, computed in a thread when its turn comes."""
    return await asyncio.get_running_loop().run_in_executor(_ASKED, question)
