"""Finds out how often the detector of a stream must look, where HAMS is to choose."""

from __future__ import annotations

import asyncio
import logging

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.tracking.cadence_agreement import tried

LOOK_S = 1.0
"""How often it is asked whether a trial is full, s."""


async def tune(name: str, core: StreamCore, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Carry out the trials of a stream called `name`, until cancelled. Its follower comes and goes with its rules."""
    while True:
        await asyncio.sleep(LOOK_S)
        follower = None if core.selection is None else core.selection.follower
        if follower is None or (trial := follower.trial) is None or not trial.full:
            continue
        found = await asyncio.to_thread(tried, trial)
        if follower.trial is not trial:
            continue  # another cadence was asked for meanwhile
        follower.tried(found)
        if follower.agreement:
            shown = ", ".join(f"{n}: {value:.2f}" for n, value in follower.agreement.items())
            text = "stream %s: the detector looks at every %d. frame (agreement by cadence: %s)"
            log.info(text, name, follower.cadence.frames, shown)
