"""What a person should look at now, most urgent first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, SchedulerView

SHORT = 0.95
"""A group that reaches less than this part of its target is below it."""
STALLED_S = 10.0
"""A stream whose frames are under way for longer without one delivered is stalled, s; slow ones: `SLOWER` × p99."""
SLOWER = 3.0


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong. `key` stays the same while it lasts."""

    key: str
    level: Literal["alarm", "warning"]
    title: str
    text: str = ""


def alarms(
    scheduler: SchedulerView | None,
    pipeline: PipelineView | None,
    troubles: Mapping[str, str],
    waited_s: Mapping[tuple[str, str], float] | None = None,
) -> list[Alarm]:
    """Return what is wrong in the state that scheduler and pipeline answered, and which of them did not.

    `waited_s`: by group and stream, how long frames are under way without one delivered.
    """
    waited_s = waited_s or {}
    found = [*_parts(troubles)]
    for device in scheduler.devices if scheduler else ():
        found += _device(device)
    for group in scheduler.groups if scheduler else ():
        found += _group(group)
    for stream in pipeline.streams if pipeline else ():
        found += _stream(stream, waited_s.get((stream.group, stream.stream), 0.0))
    return sorted(found, key=lambda alarm: alarm.level != "alarm")


def _parts(troubles: Mapping[str, str]) -> Iterator[Alarm]:
    if len(troubles) > 1:
        yield Alarm(
            "broker", "alarm", "Neither scheduler nor pipeline answers", "; ".join(sorted(set(troubles.values())))
        )
        return
    for part, text in troubles.items():
        yield Alarm(part, "alarm", f"The {part} does not answer", text)


def _device(view: DeviceView) -> Iterator[Alarm]:
    name, health = view.record.device, view.health
    if view.state == "lost":
        yield Alarm(f"device {name}", "alarm", f"Device {name} is lost", f"no heartbeat for {view.silent_s:.0f} s")
    elif view.state == "incompatible":
        yield Alarm(f"device {name}", "alarm", f"Device {name} is of another version", view.misfit)
    elif view.state == "quarantined":
        why = health.reason if health else ""
        yield Alarm(
            f"device {name}",
            "alarm",
            f"Device {name} is in quarantine",
            f"{why}; end it: hams-ctl devices resume {name}".lstrip("; "),
        )
    elif view.state == "gone":
        yield Alarm(f"device {name}", "alarm", f"Device {name} is gone", health.gone if health else "")
    elif health is not None and (health.hangs or health.failures):
        kinds = (("hung", health.hangs), ("failed", health.failures))
        did = " and ".join(f"{kind} {_times(len(times))}" for kind, times in kinds if times)
        yield Alarm(f"device {name}", "warning", f"Device {name} has {did}", health.reason)
    for fault in health.networks if health is not None else ():
        if fault.out:
            title = f"Device {name} does not run {fault.model}"
            yield Alarm(f"device {name} {fault.digest[:12]}", "warning", title, fault.reason)


def _group(group: GroupView) -> Iterator[Alarm]:
    key = f"group {group.name}"
    if group.state == "failed" or (group.error is not None and group.active is None):
        text = f"{group.error.text} {group.error.hint}".strip() if group.error else group.text
        yield Alarm(key, "alarm", f"Group {group.name} does not serve", text)
    elif group.state == "waiting":
        yield Alarm(key, "alarm", f"Group {group.name} waits for devices", group.text)
    elif group.error is not None:
        yield Alarm(key, "warning", f"Group {group.name}: its newest version is not served", group.error.text)
    elif group.active is not None and group.active.unmet:
        target = f"{group.target_fps:g} FPS" if group.target_fps else "its target"
        yield Alarm(
            key, "warning", f"Group {group.name} cannot reach {target}", f"its plan gives {group.active.fps:.1f}"
        )
    elif group.target_fps and 0 < group.expected_fps < SHORT * group.target_fps:
        text = f"it can reach {group.expected_fps:.1f} FPS now, its target is {group.target_fps:g}"
        yield Alarm(key, "warning", f"Group {group.name} is below its target", f"{text} {group.expected_why}".strip())


def _stream(stream: StreamView, waited_s: float) -> Iterator[Alarm]:
    key, name = f"stream {stream.group}/{stream.stream}", f"{stream.group}/{stream.stream}"
    failed = sum(stream.failed.values())
    if stream.state == "failed":
        yield Alarm(key, "alarm", f"Stream {name} has ended with an error", stream.text)
    elif stream.state == "reconnecting":
        yield Alarm(key, "alarm", f"Stream {name} is interrupted", stream.text)
    elif stream.state == "playing" and stream.in_flight and waited_s > max(STALLED_S, SLOWER * stream.p99_ms / 1e3):
        text = f"{stream.in_flight} frames are under way, none is delivered for {waited_s:.0f} s"
        yield Alarm(key, "alarm", f"Stream {name} is stalled", text)
    if failed:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in stream.failed.items())
        yield Alarm(f"{key} failed", "warning", f"Stream {name}: {failed} frames failed", reasons)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
