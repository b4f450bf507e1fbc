"""A deployed group as the pipeline runs it: its streams, their tasks, and the single images under way."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from hams_services.pipeline.dispatch import GroupContext
from hams_services.pipeline.flight import Close, Outcome
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.gallery_keeper import GalleryKeeper
from hams_services.pipeline.group_events import GroupEvents
from hams_services.pipeline.kept_results import KeptGroup
from hams_services.pipeline.positions import Positions, Read
from hams_services.pipeline.routing import NONE, Replicas, Reroute, SharedMemoryPeers
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.stream import StreamRunner
from hams_services.pipeline.stream_place import STOPPED
from hams_services.pipeline.traces import Tracing
from hams_services.pipeline.tuning import tune
from hams_services.pipeline.views import stream_load
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.protocol import Bus, Subscription
from hams_shared.errors import DeadlineError, RefusedError
from hams_shared.runtime.clock import Clock
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import EventsView, GroupSummary, NodeSummary, StreamLoad, StreamView
from hams_shared.wire.results import FrameResult

log = logging.getLogger("hams.pipeline")

REMOVED = "stream-removed"
"""Why frames are dropped of a stream that is taken away."""
STOP_S = 5.0
"""Deadline of the end of streams, s."""


class DeployedGroup:
    """One group. `infer_stream` names the stream of the single images that applications send."""

    def __init__(
        self,
        bus: Bus,
        record: GroupRecord,
        infer_stream: str,
        cache: Path,
        clock: Clock,
        peers: SharedMemoryPeers,
        mailboxes: Mailboxes,
        tracing: Tracing | None = None,
    ) -> None:
        spec = record.spec
        self._keeper, self._events = GalleryKeeper(bus, record), GroupEvents(bus, record)
        kept = KeptGroup(bus, spec.name, spec.results)
        self._positions = Positions(bus, kept)
        self._positioning: asyncio.Task[None] | None = None
        self._context = GroupContext(
            bus, record, clock, peers, mailboxes, Replicas(), self._keeper, self._events, kept, tracing
        )
        self.record = record
        """As deployed."""
        self._served = record
        """That frames are sent under."""
        self._cache, self._route = cache, Reroute(record.spec.name, None)
        played = record.spec.streams if record.candidate is None else ()
        self.runners = {name: StreamRunner(self._context, name, cache, self._spread) for name in played}
        self._infer_stream = infer_stream
        self._infer = Flow(self._context, infer_stream, lossless=True, publish=False, on_close=self._closed)
        self._infer.core.ordered = False
        self._work: dict[str, list[asyncio.Task[None]]] = {}
        """By stream."""
        self._subscriptions: dict[str, Subscription] = {}
        """By stream."""
        self._publishing: dict[str, asyncio.Task[None]] = {}
        """By stream; these work until the last results are stored."""
        self._answers: dict[int, asyncio.Future[tuple[Close, FrameResult | None]]] = {}

    @property
    def flows(self) -> dict[str, Flow]:
        """By stream; that of single images is the first."""
        return {self._infer_stream: self._infer, **{name: runner.flow for name, runner in self.runners.items()}}

    async def start(self, owner: asyncio.TaskGroup) -> None:
        """Load the galleries, take outputs and carry frames; :meth:`play` reads the sources."""
        await self._keeper.start(owner)
        await self._resume()
        await self._events.prepare(self.record, owner)
        for name, flow in self.flows.items():
            await self._carry(name, flow, owner)
        self._positioning = owner.create_task(self._positions.run(self._reads))

    async def _carry(self, name: str, flow: Flow, owner: asyncio.TaskGroup) -> None:
        """Take outputs for a stream, and carry its frames."""
        if name in self.runners:
            self._events.open(name, flow.run_id, self.record)
        self._subscriptions[name] = await flow.subscribe()
        tuned = tune(flow.name, flow.core, flow.log)
        self._work[name] = [owner.create_task(work) for work in (flow.run(), flow.run_previews(), tuned)]
        self._publishing[name] = owner.create_task(flow.publisher.run())

    async def _resume(self) -> None:
        """Go on where an earlier life of the pipeline was."""
        left = await self._positions.recover() if self._reads() else {}
        for name, runner in self.runners.items():
            await runner.place.resume(self._positions, left.get(name))

    def _reads(self) -> dict[str, Read]:
        return {name: runner.place.position for name, runner in self.runners.items() if runner.resumable}

    def play(self, owner: asyncio.TaskGroup) -> None:
        """Read the sources of all streams."""
        for runner in self.runners.values():
            runner.play(owner)

    async def change(self, record: GroupRecord, owner: asyncio.TaskGroup) -> None:
        """The group is deployed with another record: open, close and open anew the streams that it touches.

        All else follows with a plan for the record: see :meth:`reroute`.
        """
        before, self.record, self._context.record = self.record, record, record
        await self._keeper.prepare(record, owner)
        await self._events.prepare(record, owner)
        for name in before.spec.streams.keys() - record.spec.streams.keys():
            await self._take_away(name)
        for name in record.spec.streams.keys() - before.spec.streams.keys():
            runner = self.runners[name] = StreamRunner(self._context, name, self._cache, self._spread)
            await runner.place.resume(self._positions, None)
            await self._carry(name, runner.flow, owner)
            runner.play(owner)
        self._spread()
        for name in record.spec.streams.keys() & before.spec.streams.keys():
            self.runners[name].change(record.spec.streams[name], owner)

    def _spread(self) -> None:
        """The streams are others, or play otherwise: what devices have room for is divided anew."""
        self.reroute(replace(self._route, broken=NONE))

    async def _take_away(self, name: str) -> None:
        """A stream is removed; the others go on."""
        runner = self.runners.pop(name)
        await runner.halt()
        await self._end([name], {name: runner.flow}, REMOVED)
        await self._positions.forget([name])
        await self._events.remove(name, "undeployed")

    async def _end(self, names: Collection[str], flows: Mapping[str, Flow], reason: str) -> None:
        """Drop the frames under way of streams with `reason`, deliver complete ones, and end."""
        for flow in flows.values():
            flow.close(reason)
        tasks = [task for name in names for task in self._work.pop(name, [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)
        for name in names:
            if (subscription := self._subscriptions.pop(name, None)) is not None:
                await subscription.unsubscribe()
        for flow in flows.values():
            await flow.flush()
            flow.release()
        await asyncio.gather(*(flow.publisher.flush() for flow in flows.values()))
        await ended([self._publishing.pop(name) for name in names if name in self._publishing])

    async def stop(self, reason: str) -> None:
        """Drop the frames under way with `reason`, deliver complete ones, and end."""
        flows = self.flows
        resumed = {name for name, runner in self.runners.items() if reason == STOPPED and runner.resumable}
        for name, flow in flows.items():
            flow.close(reason, resumed=name in resumed)
        await asyncio.gather(*(runner.halt() for runner in self.runners.values()))
        if self._positioning is not None:
            await ended([self._positioning])
        await self._end([*self._work], flows, reason)
        await (self._positions.end(self._reads()) if reason == STOPPED else self._positions.forget(self.runners))
        await self._events.stop(for_good=reason != STOPPED)
        await self._keeper.stop()
        gc.collect()  # the tracebacks of cancelled tasks are cycles that hold views of the frames, and so a mapping

    def reroute(self, command: Reroute) -> None:
        """Carry out a decision of the routes. With a plan for another record, that one counts from now on."""
        self._route = command
        plan = command.plan
        if plan is not None and plan.group != self._served:
            self._served = plan.group
            self._keeper.take(plan.group)
        playing = Counter(one.mode == "lossless" for one in self.record.spec.streams.values() if not one.paused)
        for flow in self.flows.values():
            flow.reroute(command, streams=playing[flow.core.lossless])

    def loads(self) -> list[StreamLoad]:
        """Return what each stream has cost so far, and the single images if there were any."""
        images = [stream_load(infer.group, infer.core)] if (infer := self._infer).core.ledger.submitted else []
        return images + [runner.load() for runner in self.runners.values()]

    @property
    def results(self) -> int:
        """Frames delivered so far."""
        return sum(flow.core.ledger.delivered for flow in self.flows.values())

    @property
    def outputs(self) -> int:
        """Outputs of nodes taken so far."""
        return sum(flow.outputs for flow in self.flows.values())

    def views(self) -> list[StreamView]:
        """Return the streams as `status` shows them."""
        views = [runner.view() for _, runner in sorted(self.runners.items())]
        more = {"deployed_at": self.record.deployed_at}
        return [
            v.model_copy(update={**more, "text": "; ".join(filter(None, (v.text, self._keeper.text)))}) for v in views
        ]

    def summary(self, serving: bool) -> GroupSummary:
        """Return what applications may know of it."""
        spec = self.record.spec
        return GroupSummary(
            name=spec.name,
            serving=serving,
            deployed_at=self.record.deployed_at,
            nodes=tuple(
                NodeSummary(name=name, task=spec.nodes[name].task.type, parent=spec.nodes[name].parent)
                for name in spec.depth_first()
            ),
            streams=tuple(self.runners),
            pushed=tuple(name for name, one in self.runners.items() if one.pushed),
            next_frames={n: one.flow.core.ledger.submitted for n, one in self.runners.items() if one.pushed},
            kept=spec.results.keep is not None,
            tracks=self._events.tracks,
        )

    def events(self) -> EventsView | None:
        """Where its events are; None: it has no tracks, and so no events."""
        return self._events.view() if self._events.tracks else None

    async def infer(self, picture: Picture, deadline_s: float) -> FrameResult:
        """Return the result of one image. Raises DeadlineError and RefusedError."""
        name = self.record.spec.name
        frame = self._infer.submit(picture, None)
        future: asyncio.Future[tuple[Close, FrameResult | None]] = asyncio.get_running_loop().create_future()
        self._answers[frame] = future
        try:
            async with asyncio.timeout(deadline_s):
                close, result = await future
        except TimeoutError:
            self._infer.give_up(frame, "deadline")
            raise DeadlineError(
                f"group {name} gave no result within {deadline_s:g} s", "see `hams-ctl status`"
            ) from None
        finally:
            self._answers.pop(frame, None)
        if close.outcome is Outcome.DELIVERED and result is not None:
            return result
        raise RefusedError(
            f"group {name} could not process the image: {close.detail or close.reason}", "see `hams-ctl status`"
        )

    def _closed(self, close: Close, result: FrameResult | None) -> None:
        future = self._answers.get(close.frame)
        if future is not None and not future.done():
            future.set_result((close, result))
