"""Checks the group, stream and node that a command is to read: an unknown one would be waited for without end."""

from __future__ import annotations

from hams_shared.bus.control import Control, check_known, is_app
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError
from hams_shared.wire.messages.scheduler import GroupView

ANY = "*"


async def check(bus: Bus, group: str, stream: str = ANY, node: str = "") -> None:
    """Raise NotFoundError unless `group` is deployed, and has `stream` and `node`, where one is named."""
    await check_known(bus, group)
    if (node or stream != ANY) and not is_app():  # an application may not ask what a group has
        refuse_unknown(await Control(bus).deployed(group), stream, node)


def refuse_unknown(view: GroupView, stream: str = ANY, node: str = "") -> None:
    """Raise NotFoundError for a `stream` or `node` that is in no plan of the group."""
    plans = [plan.group for plan in (view.active, view.next) if plan is not None]
    nodes = list(dict.fromkeys(name for one in plans for name in one.spec.nodes))
    if plans and node and node not in nodes:
        raise NotFoundError(f"group {view.name} has no node {node}", f"its nodes: {', '.join(nodes)}")
    if stream == ANY or not plans or any(one.candidate is not None for one in plans):
        return  # a candidate gets frames of the streams of the group that it is for
    streams = list(dict.fromkeys(name for one in plans for name in one.spec.streams))
    if stream not in streams:
        known = ", ".join(streams) or "none"
        raise NotFoundError(f"group {view.name} has no stream {stream}", f"its streams: {known}")
