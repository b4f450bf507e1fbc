"""What `hams-ctl tap` does."""

from __future__ import annotations

from dataclasses import asdict

from hams_client import Hams
from hams_services.ctl.console import print_each, with_bus
from hams_services.ctl.control import Control, check_known, is_app
from hams_services.sinks.quantity import quantity
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError
from hams_shared.wire.frames import Output


def tap(
    group: str, node: str, stream: str, follow: bool, count: int, json: bool, nats: str | None, debug: bool
) -> None:
    """Print `count` outputs of a node, or all that come if `follow`."""

    async def job(bus: Bus) -> None:
        await check_known(bus, group)
        if not is_app():  # an application may not ask which nodes there are
            await _check_node(Control(bus), group, node)
        outputs = Hams(bus).tap(group, node, stream)
        await print_each(outputs, f"outputs of {group}/{node}", as_map, line, json, None if follow else count)

    with_bus(job, nats, debug, stopped_is_fine=follow)


async def _check_node(control: Control, group: str, node: str) -> None:
    view = await control.deployed(group)
    plan = view.active or view.next
    nodes = list(plan.group.spec.nodes) if plan else []
    if plan is not None and node not in nodes:
        raise NotFoundError(f"group {group} has no node {node}", f"its nodes: {', '.join(nodes)}")


def as_map(output: Output) -> dict[str, object]:
    """The whole output as plain values."""
    return {
        **asdict(output.id),
        "node": output.node,
        "device": output.device,
        "items": output.items,
        "sources": output.sources,
        "timing": output.timing,
        "error": output.error,
    }


def line(output: Output) -> str:
    """One line for one output."""
    head = f"{output.id.stream} #{output.id.frame:<6} {output.device}"
    if output.error is not None:
        return f"{head}  {output.error['code']}: {output.error.get('text', '')}"
    timing = " ".join(f"{name} {ms:.1f}" for name, ms in output.timing.items())
    found = [one for item in output.items for one in (item if isinstance(item, list) else [item])]
    words = ", ".join(summary(one) for one in found[:4]) or "nothing"
    more = f", +{len(found) - 4}" if len(found) > 4 else ""
    return f"{head}  {timing} ms  {words}{more}"


def summary(one: object) -> str:
    """One item in a word or two."""
    if not isinstance(one, dict):
        return type(one).__name__
    if "box" in one:
        x0, y0, x1, y1 = one["box"]
        return f"{one.get('label') or 'object'} {one['score']:.2f} ({x0:.0f}, {y0:.0f})–({x1:.0f}, {y1:.0f})"
    for key in ("label", "text"):
        if key in one:
            return f"{one[key]} {one['score']:.2f}" if isinstance(one.get("score"), float) else str(one[key])
    if "value" in one:
        return quantity(one["value"], one.get("unit"))
    if "points" in one:
        return f"{len(one['points'])} points"
    return ", ".join(one)
