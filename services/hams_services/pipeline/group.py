"""A deployed group as the pipeline runs it: its streams, their tasks, and the single images under way."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

from hams_services.pipeline.dispatch import GroupContext
from hams_services.pipeline.flight import Close, Outcome
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.gallery_keeper import GalleryKeeper
from hams_services.pipeline.group_events import GroupEvents
from hams_services.pipeline.routing import Replicas, Reroute, SharedMemoryPeers
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.stream import StreamRunner
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.protocol import Bus, Subscription
from hams_shared.errors import DeadlineError, RefusedError
from hams_shared.runtime.clock import Clock
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import StreamLoad, StreamView
from hams_shared.wire.results import FrameResult

STOPPED = "pipeline-stopped"
"""Why a group is stopped that is not taken away."""


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
    ) -> None:
        spec = record.spec
        self._keeper = GalleryKeeper(bus, record)
        self._events = GroupEvents(bus, spec) if spec.nodes[spec.root].track is not None else None
        context = GroupContext(bus, spec, clock, peers, mailboxes, Replicas(), self._keeper.galleries, self._events)
        self.record = record
        self.runners = {name: StreamRunner(context, name, cache) for name in spec.streams}
        self._infer = Flow(context, infer_stream, lossless=True, publish=False, on_close=self._closed)
        self.flows = {infer_stream: self._infer, **{name: runner.flow for name, runner in self.runners.items()}}
        """By stream."""
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriptions: list[Subscription] = []
        self._answers: dict[int, asyncio.Future[tuple[Close, FrameResult | None]]] = {}

    async def start(self, owner: asyncio.TaskGroup) -> None:
        """Load the galleries, take outputs and carry frames; :meth:`play` reads the sources."""
        await self._keeper.start(owner)
        if self._events is not None:
            await self._events.start(owner, {name: runner.flow.run_id for name, runner in self.runners.items()})
        for flow in self.flows.values():
            self._subscriptions.append(await flow.subscribe())
            self._tasks += [owner.create_task(flow.run()), owner.create_task(flow.tune())]

    def play(self, owner: asyncio.TaskGroup) -> None:
        """Read the sources of all streams."""
        self._tasks += [owner.create_task(runner.run()) for runner in self.runners.values()]

    async def stop(self, reason: str) -> None:
        """Drop the frames under way with `reason`, deliver complete ones, and end."""
        for flow in self.flows.values():
            flow.close(reason)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for flow in self.flows.values():
            await flow.flush()
            flow.release()
        if self._events is not None:
            await self._events.stop(for_good=reason != STOPPED)
        await self._keeper.stop()
        self._tasks.clear()
        gc.collect()  # the tracebacks of cancelled tasks are cycles that hold views of the frames, and so a mapping

    def reroute(self, command: Reroute) -> None:
        """Carry out a decision of the routes."""
        playing = Counter(runner.flow.core.lossless for runner in self.runners.values())
        for flow in self.flows.values():
            flow.reroute(command, streams=playing[flow.core.lossless])

    def loads(self) -> list[StreamLoad]:
        """Return what each stream has cost so far, and the single images if there were any."""
        images = [self._infer.load()] if self._infer.core.ledger.submitted else []
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

    async def infer(self, image: Pixels, deadline_s: float) -> FrameResult:
        """Return the result of one image. Raises DeadlineError and RefusedError."""
        name = self.record.spec.name
        frame = self._infer.submit(Picture(image), None)
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
