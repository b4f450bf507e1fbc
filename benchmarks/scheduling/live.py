"""What the live scheduler spends per event, from 20 × 4 to 2,000 × 100 nodes × devices: ``scheduling --live``.

It drives :func:`hams_scheduler.core.step` in this process, with the messages that the service would get, and solves
as the service does. There is no broker and no waiting: time is a number. What counts is CPU time, so that others on the
machine disturb less; all runs in one thread. Each size has a process, for its memory.
Groups have ten nodes. No two networks and no two devices are alike, so the matrix is as large as it can be. Four
devices share a host of 16 cores. Writes docs/benchmarks/scheduling-live.json and scheduling-live.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from hams_scheduler import core, events
from hams_scheduler.heartbeat_reader import HeartbeatReader
from hams_scheduler.leader.lease import Lease
from hams_scheduler.planning import decide
from hams_scheduler.state import SchedulerState
from hams_scheduler.view import scheduler_view
from hams_shared.group.spec import parse_group
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import AssignmentState, DeviceRecord, Heartbeat, NodeLoad, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
from hams_shared.wire.messages.scheduler import ViewRequest

OUT = Path(__file__).parents[2] / "docs" / "benchmarks"
SIZES = ((20, 4), (100, 10), (200, 20), (1000, 50), (2000, 100))
NODES = 10
"""Nodes of a group."""
ROUNDS = 20
"""Heartbeats of each device; that of a round is the mean of all devices."""
BEAT_S, TICK_S = 0.5, 0.25
COLUMNS = {
    "idle heartbeat": "idle",
    "serving heartbeat": "serving",
    "tick": "tick",
    "deploy's poll": "poll",
    "status, with the matrix": "view",
    "snapshot": "snapshot",
    "benchmark done": "profiled",
    "device lost → plan": "lost",
    "device lost → plan that was ready": "ready",
    "making one ready": "prepare",
    "one more group → plan": "more",
}


def group(number: int) -> GroupRecord:
    """A detector and its children, all of them different networks."""
    root, *children = (f"n{i}" for i in range(NODES))
    nodes: dict[str, Any] = {root: {"model": "/m.onnx", "input": {"size": [300, 300]}, "task": {"type": "raw"}}}
    for name in children:
        nodes[name] = {"model": "/m.onnx", "parent": root, "input": {"size": [64, 64]}, "task": {"type": "raw"}}
    spec = parse_group({"name": f"g{number:03d}", "nodes": nodes, "target_fps": 0.5})
    return GroupRecord(spec=spec, models={n: _model(f"{spec.name}-{n}") for n in nodes}, deployed_at=float(number))


def _model(name: str) -> ModelRef:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return ModelRef(name=name, digest=digest, parts=(ModelPart(suffix=".onnx", digest=digest, size=1 << 20),))


def device(number: int) -> DeviceRecord:
    """Every fourth device is a CPU; four share a host."""
    kind = ("cpu", "gpu", "npu", "vpu")[number % 4]
    name = f"box{number // 4}.openvino.{kind}{number % 4}"
    return DeviceRecord(
        device=name, incarnation="1", host=f"box{number // 4}", backend="openvino", unit=f"{kind}{number % 4}",
        kind=kind, name=name, cores=(), host_cores=16, memory_mib=16_000, precisions=("fp16",), runtime="2026.1",
        fingerprint=hashlib.sha256(name.encode()).hexdigest()[:16], version="1", started_at=0.0,
    )  # fmt: skip


class World:
    """A leading scheduler, groups and devices; `now` is the time, s."""

    def __init__(self, nodes: int, devices: int) -> None:
        self.rng = np.random.default_rng([nodes, devices])
        self.state = SchedulerState(started=0.0, lease=Lease("me", term=1))
        self.heartbeats = HeartbeatReader()
        self.now = 0.0
        self.devices = {d.device: d for d in map(device, range(devices))}
        self.speed = dict(zip(self.devices, 60 * np.exp(self.rng.uniform(0, np.log(10), devices)), strict=True))
        self.groups = [group(number) for number in range(nodes // NODES + 1)]
        self.served = 0
        """Frames of each group so far."""
        self.next: events.Prepare | None = None
        """The loss whose plans are to be computed; :meth:`prepare` does."""
        for name, record in self.devices.items():
            self.do(events.DeviceSeen(name, record))
        for one in self.groups:
            for profile in self.profiles(one):
                self.do(events.ProfileSeen(profile))
        self.beat()
        for one in self.groups[:-1]:
            self.do(events.GroupSeen(one.spec.name, one))
        self.state.lease.begin()
        self.now = 5.0
        self.do(events.Lead())
        self.settle()

    def profiles(self, one: GroupRecord) -> list[ProfileRecord]:
        """The measurements of a group's networks on all devices, decoded, as the service has them."""
        found = []
        for node, model in one.models.items():
            work = self.rng.lognormal(0.0, 0.8)
            for name, on in self.devices.items():
                fps = float(self.speed[name] / work * self.rng.lognormal(0.0, 0.5))
                record = ProfileRecord(
                    digest=model.digest, model_name=model.name, input_shape=one.spec.nodes[node].input.shape(),
                    fingerprint=on.fingerprint, runtime=on.runtime, precision=on.precisions[0], fps=fps,
                    cpu_ms=1e3 / fps if on.kind == "cpu" else 0.2, load_ms=200.0, memory_mib=30.0, runs=50,
                )  # fmt: skip
                found.append(codec.decode(ProfileRecord, codec.encode(record)))
        return found

    def do(self, event: events.Event) -> list[bytes]:
        """Take an event as the service does; return the plans that it publishes, encoded."""
        published = []
        for command in core.step(self.state, event, self.now):
            if isinstance(command, events.Solve):
                solution = decide(command.snapshot, 0.0)
                published += self.do(events.Solved(command.generation, solution))
            elif isinstance(command, events.Prepare):
                self.next = command
            elif isinstance(command, events.StorePlan):
                published.append(codec.encode(command.record))
        return published

    def heartbeat(self, name: str, frames: int = 0) -> bytes:
        """The heartbeat of a device that has loaded all its plans, and served so many frames of each group."""
        states, loads = [], []
        for one in sorted(self.state.plans.by_device.get(name, ())):
            record = self.state.plans.records[one]
            for plan in (record.active, record.next):
                if plan is not None and (mine := plan.nodes_on(name)):
                    states.append(AssignmentState(group=one, epoch=plan.epoch, state="ready", loaded=len(mine)))
            for node in record.active.nodes_on(name) if record.active is not None else ():
                fps = float(self.speed[name])
                loads.append(
                    NodeLoad(
                        group=one, node=node, frames=frames, inferences=frames, batches=frames, busy_s=frames / fps
                    )
                )
        busy = sum(load.busy_s for load in loads)
        return codec.encode(
            Heartbeat(
                device=name, incarnation="1", sequence=1, assignments=tuple(states), nodes=tuple(loads), busy_s=busy,
                cpu_s=busy + self.now / 100, uptime_s=self.now, epoch=self.state.plans.epoch,
            )
        )  # fmt: skip

    def hear(self, data: list[bytes]) -> None:
        """Take heartbeats from the wire."""
        for one in data:
            self.do(events.HeartbeatSeen(self.heartbeats.read(one)))

    def beat(self, but: str = "") -> float:
        """All devices send a heartbeat; return the mean time of one, s. The clock takes longer than one."""
        data = [self.heartbeat(name, self.served) for name in self.devices if name != but]
        return timed(lambda: self.hear(data)) / len(data)

    def settle(self) -> None:
        """Let the agents load what was planned."""
        for _ in range(3):
            self.now += BEAT_S
            self.beat()
            self.do(events.Tick())
        assert not self.state.plans.pending
        assert not self.state.groups.errors

    # ── what is measured ──────────────────────────────────────────────────────────────────────────────────────

    def beats(self, frames: int) -> list[float]:
        """Heartbeats, of devices that serve so many frames of each group meanwhile."""
        spent = []
        for _ in range(ROUNDS):
            self.now += BEAT_S
            self.served += frames
            spent.append(self.beat())
        return spent

    def ticks(self) -> list[float]:
        """Ticks of eight seconds."""
        spent = []
        for number in range(32):
            self.now += TICK_S
            if number % 4 == 0:
                self.beat()
            spent.append(timed(lambda: self.do(events.Tick())))
        return spent

    def view(self) -> float:
        """An answer to `status`."""
        return timed(lambda: codec.encode(scheduler_view(self.state, self.now)))

    def polls(self) -> list[float]:
        """Answers to `deploy`, which waits until agents have loaded its group; then the group goes."""
        one = self.groups[-1]
        self.do(events.GroupSeen(one.spec.name, one))
        wanted = ViewRequest(group=one.spec.name)
        spent = [timed(lambda: codec.encode(scheduler_view(self.state, self.now, wanted=wanted))) for _ in range(20)]
        self._remove(one)
        return spent

    def _remove(self, one: GroupRecord) -> None:
        self.settle()
        self.do(events.GroupSeen(one.spec.name, None))
        self.settle()

    def snapshot(self) -> float:
        """What a solver gets."""
        return timed(lambda: self.state.snapshot(self.state.groups.sorted(), "hfs"))

    def profiled(self) -> float:
        """A benchmark that ends while the group that needs it serves."""
        on = next(iter(self.devices.values()))
        one = next(p for p in self.state.profiles.records.values() if p.fingerprint == on.fingerprint)
        renewed = one.model_copy(update={"fps": one.fps * 1.001})
        return timed(lambda: self.do(events.ProfileSeen(renewed)))

    def prepare(self) -> list[float]:
        """The times of computing the plans for two losses, of those that are next."""
        spent = []
        for _ in range(2):
            for _ in range(8):
                self.now += TICK_S
                self.beat()
                self.do(events.Tick())
            if (command := self.next) is not None:
                begin = process_time()
                self.next, solution = None, decide(command.snapshot, 0.0)
                spent.append(process_time() - begin)
                self.do(events.Prepared(command.generation, solution, 0.0))
        return spent

    def prepare_all(self) -> dict[str, float]:
        """How long it takes until the plans for all losses are ready, and the CPU time for that; time goes in jumps."""
        self.state.kept.clear()
        self.next, began, spent = None, self.now, 0.0
        while self.state.kept.complete_at is None:
            self.now = max(self.now, self.state.kept.not_before) + TICK_S
            self.beat()
            self.do(events.Tick())
            if (command := self.next) is not None:
                begin = process_time()
                self.next, solution = None, decide(command.snapshot, 0.0)
                cpu_s = process_time() - begin
                self.now += cpu_s
                self.do(events.Prepared(command.generation, solution, cpu_s))
                spent += cpu_s
        seconds = self.now - began
        return {"losses": self.state.kept.wanted, "seconds": round(seconds, 1), "part": round(spent / seconds, 4)}

    def lose(self, *, ready: bool = False) -> float:
        """The time from the tick that finds a device lost to the last plan encoded; then the device returns.

        With `ready`, a device for whose loss the plans are kept.
        """
        among = [*self.state.kept.plans] if ready else [d for d in self.devices if d not in self.state.kept.plans]
        lost = max(among, key=lambda name: len(self.state.plans.by_device.get(name, ())))
        used = self.state.kept.used
        for _ in range(4):
            self.now += BEAT_S
            self.beat(but=lost)
            begin = process_time()
            if plans := self.do(events.Tick()):
                break
        spent = process_time() - begin
        assert plans
        assert self.state.kept.used == used + ready
        self.settle()
        return spent

    def add(self) -> float:
        """The time from another group's record to the last plan encoded; then the group goes."""
        one = self.groups[-1]
        begin = process_time()
        plans = self.do(events.GroupSeen(one.spec.name, one))
        spent = process_time() - begin
        assert plans
        self._remove(one)
        return spent


def timed(action: Callable[[], object]) -> float:
    """The CPU time of `action`, s."""
    begin = process_time()
    action()
    return process_time() - begin


def _most_mib() -> int:
    """The most memory that this process had, MiB; what `getrusage` returns begins with its parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmHWM"].split()[0]) / 1024)


def _ms(spent: Iterable[float]) -> dict[str, float]:
    times = sorted(1e3 * s for s in spent)
    return {
        "median": round(statistics.median(times), 3),
        "mean": round(statistics.fmean(times), 3),
        "p95": round(times[min(len(times) - 1, int(0.95 * len(times)))], 3),
        "samples": len(times),
    }


def measure(nodes: int, devices: int) -> dict[str, Any]:
    """One size: ms by kind of event, and the memory of the process."""
    begin = process_time()
    world = World(nodes, devices)
    row: dict[str, Any] = {"nodes": nodes, "devices": devices, "built_s": round(process_time() - begin, 1)}
    few = 1 if nodes >= 1000 else 3
    for key, measured in (
        ("idle", lambda: world.beats(0)),
        ("tick", world.ticks),
        ("snapshot", lambda: [world.snapshot() for _ in range(few)]),
        ("profiled", lambda: [world.profiled() for _ in range(few)]),
        ("poll", world.polls),
        ("lost", lambda: [world.lose() for _ in range(few)]),
        ("prepare", world.prepare),
        ("ready", lambda: [world.lose(ready=True)]),
        ("more", lambda: [world.add() for _ in range(few)]),
        ("serving", lambda: world.beats(5)),
        ("view", lambda: [world.view() for _ in range(few)]),
    ):
        row[key] = _ms(measured())
        row[f"{key}_memory_mib"] = _most_mib()
        print(key, row[key], file=sys.stderr, flush=True)
    if nodes <= 1000:
        row["all_ready"] = world.prepare_all()
        row["all_ready_memory_mib"] = _most_mib()
    row["rest"] = round(100 * (devices / BEAT_S * row["idle"]["mean"] + row["tick"]["mean"] / TICK_S) / 1e3, 2)
    return row


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table: median and p95 of each, ms."""
    lines = [
        f"| nodes×devices | {' | '.join(COLUMNS)} | plans for all losses ready after, with | CPU at rest "
        "| memory, MiB: at rest, planning |",
        "|---|" + "---|" * (len(COLUMNS) + 3),
    ]
    for row in rows:
        cells = [f"{row[key]['median']:,.3g} ({row[key]['p95']:,.3g})" for key in COLUMNS.values()]
        memory = f"{row['tick_memory_mib']:,}, {row['serving_memory_mib']:,}"
        ready = row.get("all_ready")
        cells.append(f"{ready['seconds']:,.0f} s, {ready['part']:.1%} of a core" if ready else "–")
        lines.append(f"| {row['nodes']}×{row['devices']} | {' | '.join(cells)} | {row['rest']:.1f} % | {memory} |")
    return "\n".join(lines) + "\n"


def main(options: list[str]) -> None:
    """Measure all sizes, each in a process of its own; or print that of one, NODES DEVICES."""
    if options:
        nodes, devices = map(int, options)
        print(json.dumps(measure(nodes, devices)))
        return
    rows = []
    for size in SIZES:
        command = [sys.executable, "-m", "benchmarks.scheduling.live", *map(str, size)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        print(rows[-1], flush=True)
    host = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    (OUT / "scheduling-live.json").write_text(json.dumps({"host": host, "rows": rows}, indent=1) + "\n")
    (OUT / "scheduling-live.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
