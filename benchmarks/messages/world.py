"""One role's messages to all parts in one process: real services on the in-memory bus, in a world with its own time."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.messages import samples, targets
from benchmarks.messages.mutate import message
from benchmarks.messages.samples import Samples
from benchmarks.messages.watch import Tracebacks, rss_mib
from hams_services.monitor.snapshot import take_snapshot
from hams_services.security.roles import Role
from hams_shared.bus.control import Control
from hams_shared.errors import HamsError
from hams_shared.wire import subjects
from support.world.clock import WorldLoop
from support.world.stub import StubDevice
from support.world.system import Listener, Player, System, light

BATCH = 100
"""Messages between two moments in which the parts work through them."""
GROWTH_MIB = 150.0
"""Most memory that may be added from the first half of a run to its end, MiB."""
READERS = ("app", "dashboard")
"""Roles that may change nothing that is stored."""
WORKERS = ("admin", "scheduler", "pipeline", "agent")
"""Roles that may do harm by valid messages: what runs under them need not be right, only alive."""


@dataclass
class Outcome:
    """What a run of one role did."""

    role: str
    sent: Counter[str] = field(default_factory=Counter)
    """Messages by subject."""
    faults: list[str] = field(default_factory=list)
    grown_mib: float = 0.0
    cpu_s: float = 0.0

    def expect(self, true: object, what: str) -> None:
        """Note a fault unless `true`."""
        if not true:
            self.faults.append(f"{self.role}: {what}")


class Fuzzed:
    """A world with a running group, and a role that misbehaves in it."""

    def __init__(self, world: System, role: Role, rng: random.Random) -> None:
        self.world, self.role, self.rng = world, role, rng
        self.outcome = Outcome(role.user)
        self.trusted = role.user.startswith(WORKERS)

    async def run(self, count: int, valid: Samples | None) -> Samples:
        """Start the system, send `count` messages, check; return valid messages for other runs."""
        world = self.world
        await world.box(sim=StubDevice(fps=1000))
        world.agent("sim", StubDevice(fps=1000), host="box2")
        await world.alive(2)
        await world.deploy(samples.group(light()))
        player, listener = world.play(fps=5), await world.listen()
        valid = valid or await samples.collect(world)
        before = self._stored()
        began = time.process_time()
        await self._send(count, valid)
        self.outcome.cpu_s = time.process_time() - began
        await self._check(player, listener, before)
        return valid

    async def _send(self, count: int, valid: Samples) -> None:
        allowed = [one for one in targets.live() if targets.may(self.role, one)]
        half = 0.0
        for number in range(count):
            subject = allowed[number % len(allowed)]
            data = message(valid.get(subject, []), self.rng)
            with suppress(HamsError):
                await self._one(subject, data)
            self.outcome.sent[subject] += 1
            if number % BATCH == 0:
                await self.world.later(0.05)
                self._look()
            if number == count // 2:
                half = rss_mib()
        await self.world.later(5)
        self.outcome.grown_mib = rss_mib() - half

    async def _one(self, subject: str, data: bytes) -> None:
        """Publish, or store where a client of a real broker would store by publishing."""
        if subject.startswith("$KV."):
            _, bucket, key = subject.split(".", 2)
            await (await self.world.bus.kv(bucket)).put(key, data)
        elif subject.startswith("$O."):
            await (await self.world.bus.objects(subjects.MODEL_STORE)).put("x", data)
        else:
            reply = self.rng.choice(("", "", f"_INBOX_{self.role.user}.x", "$KV.hams-plans.active", "hams.v1.work.x"))
            await self.world.bus.publish(subject, data, reply=reply)

    def _look(self) -> None:
        for part in self.world.parts.values():
            if not part.runs or part.lives != 1:
                raise RuntimeError(f"{part.name} has ended") from part.ended_by()
            # A role that may write plans or records of devices may also write inconsistent ones.
            if not self.trusted or part.name == "pipeline":
                part.service.validate()

    def _stored(self) -> dict[str, dict[str, bytes | None]]:
        """What buckets hold that nobody's work changes while nothing is deployed."""
        names = [subjects.bucket(one) for one in ("groups", "variants", "jobs", "uploads")]
        buckets = self.world.server.buckets
        return {one: {k: e.value for k, e in buckets[one].values.items()} for one in names if one in buckets}

    async def _check(self, player: Player, listener: Listener, before: dict[str, dict[str, bytes | None]]) -> None:
        world, outcome = self.world, self.outcome
        outcome.expect(outcome.grown_mib < GROWTH_MIB, f"memory grew by {outcome.grown_mib:.0f} MiB")
        control = Control(world.bus)

        async def answers(what: str, ask: Callable[[], Awaitable[object]]) -> None:
            try:
                await ask()
            except HamsError as error:
                outcome.expect(False, f"{what} does not answer: {error}")

        if self.role.user not in ("admin", "scheduler"):  # these may delete the group itself
            await answers("the pipeline", control.streams)
            await answers("the scheduler", control.view)
            await answers("the exporter", lambda: take_snapshot(world.bus))
        if self.role.user.startswith(READERS):
            outcome.expect(self._stored() == before, "stored records have changed")
        if not self.trusted:
            delivered = (await world.stream()).delivered
            await world.until(lambda: len([r for r in listener.received if r.stream == targets.STREAM]) >= delivered)
            frames = [one.frame for one in listener.received if one.stream == targets.STREAM]
            outcome.expect(
                frames == list(range(len(frames))), f"frames are missing, doubled or out of order: {frames[:20]}"
            )
            outcome.expect(player.pushed and not player.refused, f"frames were refused: {player.refused[:1]}")
            values = [
                (one.frame, thing["light"]["value"])
                for one in listener.received
                if one.stream == targets.STREAM
                for thing in one.objects
                if not thing.get("predicted")  # of a black picture
            ]
            wrong = [(frame, value) for frame, value in values if abs(value - frame % 60 * 4) >= 1]
            outcome.expect(values and not wrong, f"results are wrong: {wrong[:5]} of {len(values)}")


def run(role: Role, count: int, seed: int, valid: Samples | None = None) -> tuple[Outcome, Samples]:
    """Fuzz a world of its own as `role`."""
    gc.collect()  # a task of earlier tests that nobody asked for its error logs it when it is collected
    tracebacks = Tracebacks()
    root = logging.getLogger()
    root.addHandler(tracebacks)

    async def main() -> tuple[Outcome, Samples]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)
        with tempfile.TemporaryDirectory(prefix="hams-messages-") as folder:
            world = System(Path(folder), loop.clock)
            fuzzed = Fuzzed(world, role, random.Random(f"{seed} {role.user}"))
            found: Samples = valid or {}
            try:
                async with world:
                    found = await fuzzed.run(count, valid)
            except Exception as error:
                logging.getLogger(__name__).exception("%s", role.user)
                fuzzed.outcome.expect(False, f"{type(error).__name__}: {error}")
            finally:
                loop.clock.end()
            return fuzzed.outcome, found

    try:
        with asyncio.Runner(loop_factory=WorldLoop) as runner:
            outcome, found = runner.run(main())
    finally:
        root.removeHandler(tracebacks)
    for kind, number in tracebacks.seen.items():
        outcome.faults.append(f"{role.user}: {number} × {kind}: {tracebacks.first[kind]}")
    return outcome, found
