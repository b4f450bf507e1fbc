"""Rates from two looks at the system."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hams_services.monitor.core import SystemSnapshot, device_rates, node_rates
from hams_shared.wire.messages.agents import Heartbeat, NodeLoad
from hams_shared.wire.messages.plan import VariantChoice
from hams_shared.wire.messages.scheduler import DeviceView
from support.build import device, group_spec, model_ref, plan


def at(uptime: float, busy: float, frames: int, incarnation: str = "i1") -> SystemSnapshot:
    beat = Heartbeat(
        device="h.b.u",
        incarnation=incarnation,
        sequence=1,
        nodes=(NodeLoad(group="g", node="det", frames=frames, inferences=2 * frames, busy_s=busy),),
        queue=3,
        busy_s=busy,
        uptime_s=uptime,
        memory_mib=100.0,
    )
    return SystemSnapshot((DeviceView(record=device("h.b.u"), state="alive", heartbeat=beat),))


def test_two_heartbeats_of_one_life_give_rates() -> None:
    before, after = at(10.0, 4.0, 100), at(12.0, 5.0, 140)
    [one] = device_rates(before, after)
    assert (one.busy, one.queue, one.memory_mib) == (0.5, 3, 100.0)
    [node] = node_rates(before, after)
    assert (node.frames_per_s, node.inferences_per_s, node.share, node.variant) == (20.0, 40.0, 0.5, "")


def test_the_variant_that_serves_is_named() -> None:
    before, after = at(10.0, 4.0, 100), at(12.0, 5.0, 140)
    serving = plan(1, {"det": "h.b.u", "age": "h.b.v"}, group_spec("g"))
    chosen = VariantChoice(model=model_ref("det-int8"), label="int8", agreement=0.99)
    serving = serving.model_copy(update={"variants": {"det": {"h.b.u": chosen}}})
    [node] = node_rates(before, replace(after, plans=(serving,)))
    assert node.variant == "int8"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (at(10.0, 4.0, 100), at(1.0, 0.1, 3, "i2")),
        (at(10.0, 4.0, 100), at(10.0, 4.0, 100)),
        (SystemSnapshot(), at(10.0, 4.0, 100)),
    ],
    ids=["restarted", "same heartbeat", "new"],
)
def test_no_rate_without_two_heartbeats_of_one_life(before: SystemSnapshot, after: SystemSnapshot) -> None:
    assert device_rates(before, after)[0].busy is None
    assert node_rates(before, after) == []


def test_an_idle_node_is_left_out() -> None:
    assert node_rates(at(10.0, 4.0, 100), at(12.0, 4.0, 100)) == []
