"""What `hams-ctl demo` does: the main job from nothing to a report, in a system of its own that ends with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hams_client import Hams, Result
from hams_services.ctl.actions.deploy import until_served
from hams_services.ctl.actions.offline_plan import PlanOptions
from hams_services.ctl.actions.plan import ask_plan, print_plan
from hams_services.ctl.actions.up import with_progress
from hams_services.ctl.console import err, out, without_bus
from hams_services.ctl.progress import Steps, steps
from hams_services.ctl.system.up import SystemOptions, system
from hams_services.ctl.tables import NARROW, placement, streams_table
from hams_services.models.groups import load_group
from hams_services.models.prepare import bring_in
from hams_services.pipeline.sources.opening import open_source
from hams_services.sinks.painter import Painter
from hams_shared.bus.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import DeadlineError, GroupSpecError, RefusedError
from hams_shared.group.camera_url import redacted
from hams_shared.group.node_spec import RESERVED_NODE_NAMES
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.credentials import VARIABLE
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.plan import Plan

STALL_S = 120.0
"""Without a new result for this long the demo gives up, s."""
PICTURES = 6


def default_devices() -> list[str]:
    """OpenVINO on the first core and ONNX Runtime on the second; on the same one where there is no other."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    return [f"openvino:CPU@{cores[0]}", f"onnxruntime:CPU@{cores[min(1, len(cores) - 1)]}"]


def once_losslessly(spec: GroupSpec, strategy: str | None = None, source: str | None = None) -> GroupSpec:
    """The group with its first stream only, or `source` in its place, played once, losslessly, as fast as it goes.

    `strategy`: another one than its own.

    Raises:
        GroupSpecError: it has no stream, or what is to be played does not end.
    """
    if not spec.streams:
        raise GroupSpecError(f"group {spec.name} has no stream to play")
    name, stream = next(iter(spec.streams.items()))
    if source is not None:
        given = source if ":" in source else str(Path(source).absolute())
        stream = stream.model_copy(update={"source": given, "substream": None, "transport": "tcp"})
    if source_kind(stream.source) != "file":
        raise GroupSpecError(
            f"the demo plays a file to its end; {redacted(stream.source)} has none", "name a video by --source"
        )
    stream = stream.model_copy(update={"mode": "lossless", "pace": "max", "loop": False})
    return spec.model_copy(update={"strategy": strategy or spec.strategy, "streams": {name: stream}})


def demo(
    file: Path, out_dir: Path, source: str | None, devices: list[str] | None, strategy: str | None, debug: bool
) -> None:
    """Run the demo, and leave with its exit code."""

    async def main(stop: asyncio.Event) -> None:
        await run_demo(file, out_dir, source, devices, strategy)

    without_bus(main, debug)


async def run_demo(
    file: Path, out_dir: Path, source: str | None, devices: list[str] | None, strategy: str | None
) -> None:
    """Start a system, measure, plan, deploy, play, report, stop.

    Raises:
        RefusedError: a frame was not delivered, or nothing was found.
    """
    spec = once_losslessly(load_group(file), strategy, source)
    names = devices or default_devices()
    with own_home():
        out.print(f"starting broker, scheduler, pipeline and {len(names)} agents: {', '.join(names)}")
        async with (
            with_progress(partial(system, SystemOptions(names, port=0))) as running,
            NatsBus(running.url, name="hams-ctl demo") as bus,
        ):
            await _play(bus, spec, out_dir)


@contextmanager
def own_home() -> Iterator[Path]:
    """Use a new state folder, and delete it after the block; after an error keep it, without models, for its logs."""
    home = Path(tempfile.mkdtemp(prefix="hams-demo-"))
    os.environ["HAMS_HOME"] = str(home)
    os.environ.pop(VARIABLE, None)  # the system's broker takes no credentials
    unwanted = home
    try:
        yield home
    except Exception:
        unwanted = home / "broker" / "jetstream"
        err.print(f"the logs of the demo are kept: {home / 'logs'}", soft_wrap=True)
        raise
    finally:
        shutil.rmtree(unwanted, ignore_errors=True)


async def _play(bus: NatsBus, spec: GroupSpec, out_dir: Path) -> None:
    control = Control(bus)
    with steps() as progress:
        record = await bring_in(control, spec, progress)
        answer = await ask_plan(control, [record], PlanOptions(), progress)
    print_plan(answer)
    out.print()
    received: list[Result] = []
    async with asyncio.TaskGroup() as owner:
        collector = owner.create_task(_collect(Hams(bus), spec.name, received))
        with steps() as progress:
            await control.deploy(record)
            view = await until_served(control, record, progress, 600)
            stream = await _until_ended(control, received, progress)
        collector.cancel()
    assert view.active is not None
    out.print(streams_table(await control.streams(), compact=out.width < NARROW))
    _report(view.active, stream, received)
    pictures = await asyncio.to_thread(_pictures, spec, received, out_dir)
    out.print(f"{len(pictures)} annotated pictures in {out_dir}/")
    judge(stream, received)


async def _collect(hams: Hams, group: str, received: list[Result]) -> None:
    async for result in hams.results(group, limit=4096):
        received.append(result)


async def _until_ended(control: Control, received: list[Result], progress: Steps) -> StreamView:
    """Wait until the stream has ended and all its results have arrived, as long as something goes on."""
    seen, patience = -1, STALL_S
    while patience > 0:
        stream = (await control.streams()).streams[0]
        if stream.state in ("ended", "failed") and len(received) >= stream.delivered:
            return stream
        progress("play", 0, 0, f"{len(received)} frames")
        if len(received) != seen:
            seen, patience = len(received), STALL_S
        await asyncio.sleep(0.2)
        patience -= 0.2
    raise DeadlineError(f"no result for {STALL_S:g} s", "the stream has stalled")


def _report(plan: Plan, stream: StreamView, received: list[Result]) -> None:
    done = np.array([r.captured + r.latency_ms / 1e3 for r in received])
    measured = (len(done) - 1) / (done[-1] - done[0]) if len(done) > 1 else 0.0
    out.print()
    out.print(f"placement ({plan.strategy}): {placement(plan.shares, plan.variants)}")
    error = f" ({measured / plan.fps - 1:+.0%})" if plan.fps > 0 else ""
    out.print(f"group FPS: predicted {plan.fps:.2f}, measured {measured:.2f}{error}")
    out.print(f"end-to-end latency: p50 {stream.p50_ms:.1f} ms, p99 {stream.p99_ms:.1f} ms")
    gated = f"{stream.gated} gated + " if stream.gated else ""
    out.print(
        f"frame ledger: {stream.submitted} submitted = {stream.delivered} delivered + {gated}"
        f"{sum(stream.dropped.values())} dropped + {sum(stream.failed.values())} failed + {stream.in_flight} in flight"
    )
    objects = sum(len(r.objects) for r in received)
    out.print(f"found: {objects} objects in {sum(bool(r.objects) for r in received)} of {len(received)} frames")


def _pictures(spec: GroupSpec, received: list[Result], out_dir: Path) -> list[Path]:
    """Write some frames with their results drawn in."""
    out_dir.mkdir(parents=True, exist_ok=True)
    stream, painter = next(iter(spec.streams.values())), Painter(spec.streams)
    by_frame = {r.frame: r for r in received}
    wanted = set(worth_showing({frame: findings_in(result.objects) for frame, result in by_frame.items()}, PICTURES))
    source = open_source(stream, cache_folder())
    written: list[Path] = []
    try:
        for frame in range(max(wanted, default=-1) + 1):
            picture = source.read()
            if picture is None:
                break
            if frame in wanted:
                path = out_dir / f"{spec.name}-{frame:05d}.png"
                cv2.imwrite(str(path), painter.paint(by_frame[frame], picture.pixels))
                written.append(path)
            elif frame in by_frame:
                painter.follow(by_frame[frame])
    finally:
        source.close()
    return written


def findings_in(objects: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of findings in a result: objects, and outputs of child nodes for them, on all levels."""
    total = 0
    for one in objects:
        total += 1
        for key, output in one.items():
            if key not in RESERVED_NODE_NAMES and isinstance(output, Mapping):
                inner = output.get("objects")
                total += findings_in(inner) if isinstance(inner, Sequence) else bool(output.get("text", True))
    return total


def worth_showing(findings: Mapping[int, int], count: int) -> list[int]:
    """Choose `count` frames, by their numbers of `findings`: those with most, spread over the clip.

    Adjacent frames look alike, so one frame is taken first from each `count`-th of the clip.
    """
    if not findings:
        return []
    first, last = min(findings), max(findings)
    stretch = max(1.0, (last - first + 1) / count)
    best = sorted(findings, key=lambda frame: (-findings[frame], frame))
    of_each: dict[int, int] = {}
    for frame in best:
        of_each.setdefault(int((frame - first) / stretch), frame)
    chosen = [frame for frame in of_each.values() if findings[frame]]
    apart = max(1.0, stretch / 4)
    for least, empty in ((apart, False), (1.0, False), (1.0, True)):
        for frame in best:
            if (
                len(chosen) < count
                and (findings[frame] or empty)
                and all(abs(frame - other) >= least for other in chosen)
            ):
                chosen.append(frame)
    return sorted(chosen[:count])


def judge(stream: StreamView, received: list[Result]) -> None:
    """Raise RefusedError unless each frame was delivered, or gated, exactly once, and something was found."""
    frames = [r.frame for r in received]
    if stream.state == "failed":
        raise RefusedError(f"the stream failed: {stream.text}")
    if stream.delivered + stream.gated != stream.submitted or stream.in_flight or sorted(set(frames)) != frames:
        why = f": {stream.text}" if stream.text else ""
        raise RefusedError(f"not every frame was delivered exactly once, in order{why}")
    if len(frames) != stream.delivered:
        raise RefusedError(f"{stream.delivered} frames were delivered but {len(frames)} results arrived")
    if not any(r.objects for r in received):
        raise RefusedError("nothing was found in any frame")
    out.print("[bold green]ok[/bold green]: every frame accounted for", markup=True)
