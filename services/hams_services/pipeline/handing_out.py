"""Gives a frame to the nodes whose objects are chosen here. Pure."""

from __future__ import annotations

from hams_services.pipeline.flight import Command, Flight, Send
from hams_services.pipeline.selection import Selection
from hams_shared.wire.frames import Output


def hand_out(selection: Selection | None, flight: Flight, deadline_s: float, now: float) -> list[Command]:
    """Send the frame to the nodes whose objects can be chosen now; answer for those that have none."""
    commands: list[Command] = []
    rules = flight.rules
    if selection is None or rules is None or flight.retry_at is not None:
        return commands
    assert flight.join is not None
    assert flight.plan is not None
    assert flight.id is not None
    for node in selection.due(flight):
        objects = selection.pick(flight, node)
        nodes = rules.below[node]
        if objects and flight.followed and node in rules.slow:
            commands.append(selection.ask(flight, node, objects, now))
            objects = []
        if not objects:
            for one in nodes:
                flight.answered(one)
                flight.join.add(Output(id=flight.id, node=one, device="", items=[]))
            continue
        flight.outstanding |= nodes
        flight.deadline = now + flight.patience_s(deadline_s)
        commands.append(Send(flight.id, flight.plan, flight.route, node, objects, flight.picks[node]))
    return commands
