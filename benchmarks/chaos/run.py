"""Runs a sequence of faults on a system of its own, and checks after each."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos import checks, inside
from benchmarks.chaos.actors import Actors
from benchmarks.chaos.checks import BAR_S, Frames, Part, Seen, Tally, Violation
from benchmarks.chaos.faults import KINDS, Fault
from benchmarks.chaos.observer import Observer
from benchmarks.chaos.rig import FPS, PARTS, STREAMS, ChaosRig, abandoned
from hams_client import connect
from hams_shared.errors import BrokerError, HamsError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord

DEADLINE_S = 40.0
"""How long everything may take to be whole again after a fault before that is a violation, s."""
ILL = frozenset({"hang", "fail", "nan", "abort", "gone"})
"""Kinds that may end an agent: it is started again, as its supervisor does."""
STARTS = {"kill-pipeline": "pipeline", "abort": "agent-b"}
"""Kinds that are allowed the start of a process, too: that of `abort` may end once more while it loads."""
EARLY = 10
"""Checkpoints compared for growth, at the start and at the end."""
STEADY_S = 1.0


@dataclass
class Outcome:
    """What a sequence showed."""

    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    violations: list[tuple[int, Violation]] = field(default_factory=list)
    """With the number of the fault after which each was seen."""
    done: int = 0
    results: int = 0
    load_s: dict[str, float] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=lambda: defaultdict(list))


class Run:
    """One sequence; `outcome` holds what was seen so far at any time."""

    def __init__(
        self, faults: Sequence[Fault], seed: int, stop: asyncio.Event, secured: bool, logs: Path | None = None
    ) -> None:
        self.outcome = Outcome()
        self._faults = faults
        self._seed = seed
        self._stop = stop
        self._secured = secured
        self._logs = logs
        """Where the parts' logs are kept; None: a run among many, which prints nothing either."""
        self._lossless = {name: Frames() for name, mode in STREAMS.items() if mode == "lossless"}
        self._told: set[Violation] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._newest: dict[str, tuple[int, float]] = {}
        self._owners: dict[int, str] = {}

    async def run(self) -> Outcome:
        """Start the system, carry the faults out, stop it."""
        with tempfile.TemporaryDirectory(prefix=inside.scratch(), ignore_cleanup_errors=True) as scratch:
            rig = ChaosRig(Path(scratch), self._seed, self._secured)
            try:
                self.outcome.load_s = await rig.begin()
                admin = rig.site.creds("admin") if rig.site is not None else None
                async with connect(rig.url, credentials=admin) as hams:
                    await self._with(rig, Observer(hams, "grey", frozenset(self._lossless)))
            finally:
                await rig.end(self._logs)
        return self.outcome

    async def _with(self, rig: ChaosRig, observer: Observer) -> None:
        self._tasks = [asyncio.create_task(rig.keep())]
        try:
            records = await self._deployed(rig, observer)
            self._tasks.append(asyncio.create_task(observer.collect()))
            actors = Actors(rig, observer, records)
            await self._steady(observer, time.monotonic())
            self._frames(observer.take())
            for number, fault in enumerate(self._faults):
                if self._stop.is_set():
                    return
                await self._one(number, fault, rig, observer, actors)
            for violation in self._growth():
                self._found(len(self._faults) - 1, "growth", violation)
        finally:
            await ended(self._tasks)

    async def _deployed(self, rig: ChaosRig, observer: Observer) -> dict[str, GroupRecord]:
        main, other = rig.groups()
        if not await observer.until_whole(2, 0, DEADLINE_S):
            raise SystemExit("the system does not start")
        await asyncio.to_thread(rig.ctl, "deploy", str(other))
        await asyncio.to_thread(rig.ctl, "deploy", str(main))
        bucket = await observer.hams.bus.kv(subjects.bucket("groups"))
        entries = await bucket.entries()
        records = {name: codec.decode(GroupRecord, one.value) for name, one in entries.items() if one.value}
        await asyncio.to_thread(rig.ctl, "undeploy", "other")
        if not await observer.until_whole(2, 1, DEADLINE_S):
            raise SystemExit("the group does not serve")
        return records

    async def _one(self, number: int, fault: Fault, rig: ChaosRig, observer: Observer, actors: Actors) -> None:
        kind = KINDS[fault.kind]
        start = time.monotonic()
        try:
            begun, over = await actors.carry_out(fault)
        except HamsError as error:
            begun, over = start, time.monotonic()
            self._found(number, fault.kind, Violation("refused", str(error)))
        whole = await observer.until_whole(2, 1, DEADLINE_S)
        flows = await self._steady(observer, over)
        took = self._recovery(observer, kind.replaceable, begun, over)
        tally = self.outcome.tallies[fault.kind]
        load = self.outcome.load_s.get(STARTS.get(fault.kind, ""), 0.0)
        tally.allowed.append(BAR_S + kind.detect_s + load)
        tally.recoveries.append(took if took is not None else DEADLINE_S)
        if not (whole and flows and took is not None):
            state = await observer.view()
            seen = (
                f"devices {[d.state for d in state.devices]}, groups {[g.state for g in state.groups]}"
                if state
                else "?"
            )
            self._found(number, fault.kind, Violation("recovery", f"not whole within {DEADLINE_S:g} s: {seen}"))
        for violation in await self._checked(fault.kind, rig, observer):
            self._found(number, fault.kind, violation)
        self.outcome.done = number + 1
        if self._logs is not None:
            shown = "never" if took is None else f"{took:.2f} s"
            wrong = [str(v) for n, v in self.outcome.violations if n == number]
            text = f"{number + 1:4d}/{len(self._faults)} {fault}: flows after {shown}, {time.monotonic() - start:.1f} s"
            print("\n     ".join([text, *wrong]), flush=True)

    async def _steady(self, observer: Observer, since: float) -> bool:
        """Wait until each stream flows for STEADY_S s; return whether it came to that in time."""
        while time.monotonic() < since + DEADLINE_S:
            for task in self._tasks:
                if task.done():
                    task.result()  # it failed
            now = time.monotonic()
            flows = [checks.recovery(observer.times(name), max(since, now - STEADY_S), now, FPS) for name in STREAMS]
            if now >= since + STEADY_S and all(one == 0 for one in flows):
                return True
            await asyncio.sleep(0.05)
        return False

    def _recovery(self, observer: Observer, replaceable: bool, begun: float, over: float) -> float | None:
        """How long frames did not flow: while the fault lasted, where others do the work; and after it."""
        now = time.monotonic()
        worst = 0.0
        for name in STREAMS:
            times = observer.times(name)
            took = checks.recovery(times, over, now, FPS)
            if took is None:
                return None
            worst = max(worst, took)
            if replaceable and over - begun > checks.WINDOW_S:
                within = checks.recovery(times, begun, over, FPS)
                worst = max(worst, over - begun + took if within is None else within)
            elif replaceable and took:
                worst = max(worst, over - begun + took)
        return worst

    async def _checked(self, kind: str, rig: ChaosRig, observer: Observer) -> list[Violation]:
        found = self._frames(observer.take())
        accounts = await observer.accounts()
        found += [one for one in checks.ledger_of(accounts) if one not in self._told]  # ledgers tell all that was lost
        self._told.update(found)
        exits, rig.exits = rig.exits, []
        found += [
            Violation("ended", f"{name}: exit {code}")
            for name, code in exits
            # A part that was just starting when its key was revoked ends, and is started again.
            if kind not in ILL and (kind != "revoke" or code != BrokerError.exit_code)
        ]
        found += [Violation("orphan", text) for text in rig.orphans()]
        found += [Violation("shm", name) for name in abandoned()]
        for name in (*PARTS, "broker"):
            with suppress(OSError, KeyError):
                self.outcome.parts[name].append(rig.part(name))
        return found

    def _frames(self, seen: list[Seen]) -> list[Violation]:
        self.outcome.results += len(seen)
        found = checks.frames_of(seen, self._lossless)
        found += checks.epochs_of(seen, self._newest, self._owners)
        return found

    def _growth(self) -> list[Violation]:
        parts = self.outcome.parts
        if min((len(of) for of in parts.values()), default=0) < 4 * EARLY:
            return []
        return checks.growth(
            {n: p[EARLY : 2 * EARLY] for n, p in parts.items()}, {n: p[-EARLY:] for n, p in parts.items()}
        )

    def _found(self, number: int, kind: str, violation: Violation) -> None:
        self.outcome.violations.append((number, violation))
        self.outcome.tallies[kind].violations[violation.what] += 1
