"""A candidate in the pipeline: it is given frames of the streams of the group that serves, and compared with that.

A shadow has a flow of its own for each stream, which publishes nothing: while that is busy, frames are left out and
counted, so that it never holds up what serves. A canary's frames stay in the flow of the stream; see
:mod:`hams_services.pipeline.canary`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hams_services.pipeline.canary import Canary, takes
from hams_services.pipeline.candidate_tally import Tally, rule_values, view
from hams_services.pipeline.comparison import Agreements, agreements
from hams_services.pipeline.flight import Close, Outcome
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.group import DeployedGroup
from hams_services.pipeline.routing import Reroute
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.tuning import tune
from hams_services.pipeline.views import stream_load
from hams_shared.bus.candidates import end_by_rule, why_no_canary
from hams_shared.bus.deployments import Deployments
from hams_shared.bus.protocol import Subscription
from hams_shared.errors import HamsError
from hams_shared.group.candidates import compile_rule, judge
from hams_shared.runtime.clock import Clock
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire.messages.candidate import CandidateView
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import StreamLoad
from hams_shared.wire.results import FrameResult

log = logging.getLogger("hams.pipeline")

RUN = 150
"""Frames in a row that a shadow gets of a stream where objects are followed: its tracker needs successive frames."""
WARM_UP = 25
"""The first frames of each run are not compared: tracks begin anew."""
AGAIN_S = 5.0
"""How long after a failure a candidate's end by its rule is tried again, s."""
COMPARE_S = 0.5
"""How often results are compared, s."""
CHUNK = 16
"""Frames that are compared at once, at most: a network's mistakes are measured over several images."""


@dataclass
class Shadow:
    """Gives frames of one stream to a flow of the candidate, and pairs the results."""

    serving: Flow
    flow: Flow
    share: float
    run: int
    tally: Tally
    subscriptions: list[Subscription] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _frames: dict[int, int] = field(default_factory=dict)
    """By the candidate's number of a frame: that of what serves."""
    _run: int = -1
    left = False

    async def start(self, owner: asyncio.TaskGroup) -> None:
        """Take frames from now on."""
        self.subscriptions.append(await self.flow.subscribe())
        tuned = tune(self.flow.name, self.flow.core, self.flow.log)
        self.tasks += [owner.create_task(self.flow.run()), owner.create_task(tuned)]
        self.flow.on_close = self._tried
        self.serving.on_frame, self.serving.on_close = self._offered, self._served

    async def stop(self, reason: str) -> None:
        """Take no more; what is under way is dropped."""
        self.serving.on_frame, self.serving.on_close = None, None
        self.flow.on_close = None
        self.flow.close(reason)
        await ended(self.tasks)
        for subscription in self.subscriptions:
            await subscription.unsubscribe()
        await self.flow.flush()
        self.flow.release()

    def _offered(self, frame: int, picture: Picture, media_time_s: float | None) -> None:
        if not takes(self.serving.stream, frame, self.share, self.run):
            return
        core, tally = self.flow.core, self.tally
        tally.chosen += 1
        if core.plan is None or core.waiting or not core.has_room:
            tally.skipped += 1
            return
        begins = frame // self.run != self._run
        if begins and self.run > 1 and core.selection is not None and core.idle:
            core.selection.end_tracks()
        self._run = frame // self.run
        tally.expect(frame, compared=self.run == 1 or frame % self.run >= WARM_UP)
        self._frames[core.ledger.submitted] = frame
        self.flow.submit(replace(picture, traceparent=""), media_time_s)

    def _served(self, close: Close, result: FrameResult | None) -> None:
        self.tally.served(close.frame, result)

    def _tried(self, close: Close, result: FrameResult | None) -> None:
        tally = self.tally
        if close.outcome is Outcome.FAILED:
            tally.failed[close.reason] += 1
        elif close.outcome is Outcome.DROPPED:
            tally.dropped[close.reason] += 1
        else:
            tally.frames += 1
        if (frame := self._frames.pop(close.frame, None)) is not None:
            tally.tried(frame, result)


@dataclass
class CanaryLane:
    """Sends frames of one stream to the candidate, and times both sides."""

    serving: Flow
    canary: Canary
    tally: Tally
    clock: Clock
    subscriptions: list[Subscription] = field(default_factory=list)

    async def start(self, group: str) -> None:
        """Take frames from now on; `group` is the candidate's own name."""
        self.subscriptions.append(await self.serving.subscribe(group))
        self.serving.on_close = self._ended
        self._set(self.canary)

    @property
    def left(self) -> bool:
        """Whether the stream has put the canary out, since it is computed by another record now."""
        return self.serving.core.canary is not self.canary

    async def stop(self, _reason: str) -> None:
        """Take no more; what is under way goes to what serves."""
        self.serving.on_close = None
        self._set(None)
        for subscription in self.subscriptions:
            await subscription.unsubscribe()

    def route(self, command: Reroute) -> None:
        """The candidate's plan changed."""
        self.serving.carry_out(self.serving.core.route_canary(command.plan, command.broken, self.clock.now()))

    def _set(self, canary: Canary | None) -> None:
        self.serving.carry_out(self.serving.core.set_canary(canary, self.clock.now()))

    def _ended(self, _close: Close, result: FrameResult | None) -> None:
        tally, canary = self.tally, self.canary
        if result is not None:
            (tally.candidate if result.get("candidate") else tally.serving).take(result)
        tally.chosen, tally.skipped, tally.frames = canary.chosen, canary.skipped, canary.served
        tally.failed = canary.failed


class CandidateGroup(DeployedGroup):
    """A group that has no streams of its own: it follows the group in its record."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        of = self.record.candidate
        assert of is not None
        self._of = of
        self._lanes: dict[str, Shadow | CanaryLane] = {}
        self._command: Reroute | None = None
        self._agreements = Agreements()
        self._since: float | None = None
        """When what serves was deployed, that all this is compared with."""
        self._serving: DeployedGroup | None = None
        self._base: GroupRecord | None = None
        """Its record at that time."""
        self._owner: asyncio.TaskGroup | None = None
        self._waits = "the group that it is for is not here yet"
        self.verdict: tuple[str, str] | None = None
        """promoted or dropped, and why, once its rule has decided."""
        self._judges: list[asyncio.Task[None]] = []
        self._following = asyncio.Lock()
        """Held while lanes come and go: :meth:`follow` and :meth:`stop` are called by different tasks."""
        self._incomparable = ""
        """The newest error of comparing outputs, told once."""
        self._unsettled = ""
        """Why what its rule decided could not be carried out."""

    @property
    def flows(self) -> dict[str, Flow]:
        """By stream; that of single images is the first."""
        return {**super().flows, **{n: lane.flow for n, lane in self._lanes.items() if isinstance(lane, Shadow)}}

    async def start(self, owner: asyncio.TaskGroup) -> None:
        """Begin; frames come once :meth:`follow` is called."""
        await super().start(owner)
        self._owner = owner
        self._judges.append(owner.create_task(self._judge()))

    async def stop(self, reason: str) -> None:
        """Follow no more, and end."""
        await ended(self._judges)
        async with self._following:
            self._owner = None
            for stream in list(self._lanes):
                await self._leave(stream, reason)
        await super().stop(reason)

    def reroute(self, command: Reroute) -> None:
        """Carry out a decision of the routes."""
        self._command = replace(command, broken=frozenset())
        super().reroute(command)
        for lane in self._lanes.values():
            if isinstance(lane, CanaryLane):
                lane.route(command)

    # ── following ─────────────────────────────────────────────────────────────────────────────────────────────

    async def follow(self, serving: DeployedGroup | None) -> None:
        """Take frames of `serving` as it is now; called again and again."""
        async with self._following:
            if self._owner is not None:  # it has begun, and is not stopped
                await self._follow(serving)

    async def _follow(self, serving: DeployedGroup | None) -> None:
        flows = {} if serving is None else {name: one.flow for name, one in serving.runners.items()}
        self._waits = self._why_not(serving, flows)
        if self._waits:
            flows = {}
        changed = serving is not None and serving.record.deployed_at != self._since
        for stream, lane in list(self._lanes.items()):
            if changed or flows.get(stream) is not lane.serving or lane.left:
                await self._leave(stream, "redeployed")
        if changed and serving is not None:
            self._since, self._serving, self._base = serving.record.deployed_at, serving, serving.record
            self._agreements = Agreements()
        for stream, flow in flows.items():
            if stream not in self._lanes and stream in self.record.spec.streams:
                await self._join(stream, flow)

    def _why_not(self, serving: DeployedGroup | None, flows: Mapping[str, Flow]) -> str:
        """A canary's frames are computed by the rules of what serves now, which may be older than what is deployed."""
        if serving is None:
            return f"group {self._of.of} is not deployed"
        records = [serving.record, *(flow.record for flow in flows.values())] if self._of.mode == "canary" else []
        return next((why for one in records if (why := why_no_canary(self.record, one))), "")

    async def _join(self, stream: str, serving: Flow) -> None:
        assert self._owner is not None
        name, of, tally = self.record.spec.name, self._of, Tally(stream)
        if of.mode == "canary":
            plan = None if self._command is None else self._command.plan
            canary = Canary(stream, of.share, plan, self._context.replicas)
            lane = CanaryLane(serving, canary, tally, self._context.clock)
            self._lanes[stream] = lane
            await lane.start(name)
            return
        flow = Flow(self._context, stream, lossless=False, publish=False)
        follows = any(s is not None and s.follower is not None for s in (flow.core.selection, serving.core.selection))
        shadow = Shadow(serving, flow, of.share, RUN if follows else 1, tally)
        self._lanes[stream] = shadow
        if self._command is not None:
            flow.reroute(self._command, streams=len(self.record.spec.streams))
        await shadow.start(self._owner)

    async def _leave(self, stream: str, reason: str) -> None:
        await self._lanes.pop(stream).stop(reason)

    # ── comparing ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _judge(self) -> None:
        """Compare results, and act by the rule, until cancelled."""
        while True:
            await asyncio.sleep(COMPARE_S)
            for lane in list(self._lanes.values()):
                while lane.tally.pairs:
                    await self._compare(lane.tally)
            if self._of.rule and self.verdict is None:
                await self._settle()

    async def _compare(self, tally: Tally) -> None:
        """Compare some frames, in a thread: large scenes take many milliseconds."""
        count = min(CHUNK, len(tally.pairs))
        pairs = [tally.pairs.popleft() for _ in range(count)]
        into, serving = self._agreements, self._serving
        if serving is not None:
            try:
                found = await asyncio.to_thread(agreements, serving.record.spec, self.record.spec, pairs)
            except Exception as error:  # outputs of tasks that are not ours
                text = f"outputs cannot be compared: {type(error).__name__}: {error}"
                if text != self._incomparable:
                    log.warning("candidate for %s: %s", self._of.of, text, extra={"group": self._of.of})
                self._incomparable = text
                return
            into.take(found, count)

    async def _settle(self) -> None:
        """Promote or drop it, once its rule has decided."""
        seen, of = self.view(), self._of
        rested = sum(lane.canary.rested for lane in self._lanes.values() if isinstance(lane, CanaryLane))
        try:
            verdict = judge(compile_rule(of.rule, of.mode), rule_values(seen), max(1, of.after - rested))
            if verdict is None or (verdict == "kept" and of.promote != "auto"):
                return
            why = f"its rule was {verdict} after {seen.frames} frames: {of.rule}"
            self.verdict = ("promoted" if verdict == "kept" else "dropped", why)  # before this group ends by it
            log.info("candidate for %s is %s: %s", of.of, *self.verdict, extra={"group": of.of})
            await end_by_rule(Deployments(self._context.bus), self.record, self._base, keep=verdict == "kept")
        except HamsError as error:  # the broker is away, a person was faster, or the rule is of a later HAMS
            self.verdict, self._unsettled = None, f"its rule could not be carried out: {error}"
            log.warning("candidate for %s: %s", of.of, self._unsettled, extra={"group": of.of})
            await asyncio.sleep(AGAIN_S)

    # ── what others are told ───────────────────────────────────────────────────────────────────────────────────

    def view(self) -> CandidateView:
        """As `status` shows it."""
        tallies = [lane.tally for lane in self._lanes.values()]
        waits = self._waits
        if not waits and (self._command is None or self._command.plan is None):
            waits = "it is not placed yet: see `hams-ctl status`"
        mine, other = self.record.spec.nodes, self._serving.record.spec.nodes if self._serving is not None else {}
        alone = tuple(sorted(mine.keys() ^ other.keys())) if other and self._of.mode == "shadow" else ()
        seen = view(self.record, tallies, self._agreements, waits=waits, not_compared=alone)
        state, why = self.verdict or (seen.state, seen.text or self._unsettled)
        return seen.model_copy(update={"state": state, "text": why})

    def loads(self) -> list[StreamLoad]:
        """Return what each stream has cost so far."""
        name = self.record.spec.name
        found = super().loads()
        for stream, lane in self._lanes.items():
            if isinstance(lane, Shadow):
                found.append(stream_load(lane.flow.group, lane.flow.core))
            else:
                ours, failed = lane.canary.served, lane.canary.failed.total()
                found.append(StreamLoad(group=name, stream=stream, frames=ours + failed, completed=ours, lost=failed))
        return found


class Candidates:
    """All candidates of a pipeline, and how rules have ended the last ones."""

    def __init__(self, groups: dict[str, DeployedGroup]) -> None:
        self._groups = groups
        self._settled: dict[str, CandidateView] = {}
        """By name; of each group the last one."""

    async def follow(self) -> None:
        """Let each candidate take frames of its group as it is now."""
        for name, group in list(self._groups.items()):
            if isinstance(group, CandidateGroup) and self._groups.get(name) is group:  # not gone meanwhile
                assert group.record.candidate is not None
                self._settled.pop(name, None)
                await group.follow(self._groups.get(group.record.candidate.of))

    def gone(self, name: str, group: DeployedGroup) -> None:
        """A group has been taken away; what its rule has decided stays to be seen."""
        if isinstance(group, CandidateGroup) and group.verdict is not None:
            self._settled[name] = group.view()

    def views(self) -> tuple[CandidateView, ...]:
        """As `status` shows them, by name."""
        found = {name: one.view() for name, one in self._groups.items() if isinstance(one, CandidateGroup)}
        return tuple(one for _, one in sorted({**self._settled, **found}.items()))
