"""Why a group that is deployed is placed nowhere: only the scheduler knows."""

from __future__ import annotations

from hams_shared.bus.ask import scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError, from_wire

ASK_S = 2.0
"""How long the scheduler is asked, s."""


async def raise_why(bus: Bus, group: str) -> None:
    """Raise what the scheduler found wrong with `group`; return when it found nothing, or does not answer."""
    try:
        view = await scheduler_view(bus, timeout=ASK_S)
    except HamsError:
        return  # the scheduler is away, or credentials of an older site do not let the pipeline ask
    for one in view.groups:
        if one.name == group and one.error is not None and one.active is None:
            raise from_wire(one.error.model_dump())
