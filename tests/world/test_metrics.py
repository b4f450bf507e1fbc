"""What Prometheus is shown of a running system: counts that fit the ledger, lost devices, parts that are away."""

from __future__ import annotations

import time

from hams_services.monitor.exporter import HamsCollector
from hams_services.monitor.snapshot import take_snapshot
from hams_shared.wire.messages.histogram import Histogram
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light, light

FRAMES = 40

Samples = dict[tuple[str, ...], float]


async def exported(world: System) -> Samples:
    """What a scrape shows now, by metric and labels."""
    collector = HamsCollector()
    collector.show(await take_snapshot(world.bus), time.monotonic())
    found = (sample for family in collector.collect() for sample in family.samples)
    return {(one.name, *one.labels.values()): one.value for one in found}


def total(histogram: Histogram | None) -> int:
    assert histogram is not None
    return sum(histogram.counts)


async def test_the_histogram_counts_each_delivered_frame_and_begins_anew_with_the_ledger(world: System) -> None:
    await world.box(one=StubDevice(fps=40), two=StubDevice(fps=15))
    await world.deploy(light())
    world.play(count=FRAMES)
    await world.until(lambda: delivered(world, FRAMES))
    await world.parts["box.stub.one"].kill()
    world.play(count=FRAMES)
    await world.until(lambda: delivered(world, 2 * FRAMES))
    stream = await world.stream()
    assert total(stream.latency) == stream.delivered == 2 * FRAMES
    assert stream.latency is not None
    assert 0 < stream.latency.sum / stream.delivered < 60
    found = await exported(world)
    assert found["hams_stream_latency_seconds_count", "grey", "s0"] == 2 * FRAMES
    assert found["hams_stream_frames_total", "grey", "s0", "delivered", ""] == 2 * FRAMES
    await world.control.undeploy("grey")
    await world.deploy(light())
    stream = await world.stream()
    assert total(stream.latency) == stream.delivered == 0


async def delivered(world: System, frames: int) -> bool:
    return (await world.stream()).delivered == frames


async def test_groups_devices_and_parts(world: System) -> None:
    await world.box(one=StubDevice(fps=40), two=StubDevice(fps=15))
    group = await world.deploy(light(target_fps=10))
    world.play()
    await world.until(lambda: measured(world))
    found = await exported(world)
    assert found["hams_group_state", "grey", "serving"] == 1
    assert found["hams_group_target_fps", "grey"] == group.spec.target_fps == 10
    ratio = found["hams_group_measured_fps", "grey"] / 10
    assert found["hams_group_target_ratio", "grey"] == ratio
    assert found["hams_group_predicted_fps", "grey"] > 0
    assert found["hams_stream_info", "grey", "s0", "push", "lossless", "realtime"] == 1
    assert found["hams_scheduler_plans_total",] >= found["hams_group_plan_epoch", "grey"] >= 1
    assert [found["hams_device_up", f"box.stub.{unit}", "true"] for unit in ("one", "two")] == [1, 1]
    await world.parts["box.stub.two"].kill()
    await world.until(lambda: lost(world, "box.stub.two"))
    await world.parts["pipeline"].stop()
    found = await exported(world)
    assert found["hams_up",] == 0
    assert [found["hams_part_up", part] for part in ("broker", "scheduler", "pipeline")] == [1, 1, 0]


async def measured(world: System) -> bool:
    return (await world.group()).measured_fps > 0


async def lost(world: System, device: str) -> bool:
    return (await exported(world))["hams_device_up", device, "true"] == 0


async def test_events_that_the_broker_has_not_stored_are_pending(world: System) -> None:
    group = boxes_and_light()
    group["nodes"]["find"]["track"] = {"confirm_hits": 1}
    await world.box(one=StubDevice(fps=40))
    await world.deploy(group)
    world.play(count=FRAMES)
    await world.until(lambda: published(world))
    found = await exported(world)
    assert found["hams_events_pending", "grey"] == 0
    assert found["hams_events_lost_total", "grey", "overflow"] == 0


async def published(world: System) -> bool:
    return (await exported(world))["hams_events_published_total", "grey"] > 0


async def test_while_the_broker_is_away_nothing_waits_for_it(world: System) -> None:
    await world.box(one=StubDevice(fps=40))
    world.server.stop()
    before = world.clock.now()
    found = await exported(world)
    assert world.clock.now() == before
    assert found["hams_up",] == found["hams_part_up", "broker"] == 0
    world.server.start()
    await world.until(lambda: up(world))


async def up(world: System) -> bool:
    return (await exported(world))["hams_up",] == 1
