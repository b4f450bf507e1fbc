"""Sends the frames of a stream to devices: into their mailboxes at once, else by the broker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from hams_services.pipeline.flight import Send
from hams_services.pipeline.gallery_keeper import GalleryKeeper
from hams_services.pipeline.group_events import GroupEvents
from hams_services.pipeline.kept_results import KeptGroup
from hams_services.pipeline.regions import as_crops, views
from hams_services.pipeline.routing import Replicas, SharedMemoryPeers
from hams_services.pipeline.traces import FrameTraces, Tracing
from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailboxes, Outgoing
from hams_shared.bus.protocol import Bus
from hams_shared.runtime.clock import Clock
from hams_shared.wire import subjects
from hams_shared.wire.frame_pool import FrameStore
from hams_shared.wire.frames import Reduced, Work, pack_works
from hams_shared.wire.messages.group import GroupRecord

NO_PIXELS = np.empty((1, 0, 0, 3), np.uint8)
IDENTITY = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
NO_MAPS = np.empty((0, 2, 3))


@dataclass
class GroupContext:
    """What all streams of a group use together."""

    bus: Bus
    record: GroupRecord
    """As deployed; frames are computed by that of their plan."""
    clock: Clock
    peers: SharedMemoryPeers
    mailboxes: Mailboxes
    replicas: Replicas
    galleries: GalleryKeeper
    events: GroupEvents
    kept: KeptGroup
    tracing: Tracing | None = None
    """None: only frames whose traces are requested are traced."""


@dataclass(frozen=True)
class Dispatch:
    """Sends the frames of one stream to the devices of their root node; frames for one device share a message."""

    context: GroupContext
    answer_to: str
    """The mailbox of the stream."""
    frames: FrameStore
    reduced: FrameStore
    """Of the frames that have one: the smaller picture."""
    traces: FrameTraces
    stream: str

    def by_mailbox(self, sends: Iterable[Send]) -> list[Send | Outgoing]:
        """Send frames into the mailboxes of their devices; return those that have to go by the broker.

        What no frame waits for is packed at once: its frame may leave its memory before it is sent.
        """
        left: list[Send | Outgoing] = []
        sends = list(sends)
        for one in sends:
            if one.later and (message := self._message(one.device, [one])) is not None:
                left.append(message)
        for device, some in _by_device(one for one in sends if not one.later).items():
            # A message with pixels is too large for a mailbox, and is packed once.
            small = self.context.peers.mailbox(device) and all(self._in_memory(command.id.frame) for command in some)
            message = self._message(device, some) if small else None
            if message is None or not self.context.mailboxes.send(message):
                left += some
        return left

    async def by_broker(self, sends: Iterable[Send | Outgoing]) -> None:
        """Publish frames. Raises BrokerError and DeadlineError."""
        waiting = list(sends)
        packed = [one for one in waiting if isinstance(one, Outgoing)]
        frames = _by_device(one for one in waiting if isinstance(one, Send))
        for message in (*packed, *(self._message(device, some) for device, some in frames.items())):
            if message is not None:
                await chunks.publish(self.context.bus, message.subject, message.data)

    def _in_memory(self, frame: int) -> bool:
        found = self.frames.get(frame)
        return found is not None and found[1] is not None

    def _message(self, device: str, sends: list[Send]) -> Outgoing | None:
        """Return the work of frames for one device; None when all were closed meanwhile."""
        works = [work for command in sends if (work := self._work(command)) is not None]
        return Outgoing(subjects.work(device), pack_works(works), self.context.peers.mailbox(device)) if works else None

    def _work(self, command: Send) -> Work | None:
        """Return a node's work for a frame; None when the frame was closed meanwhile."""
        found = self.frames.get(command.id.frame)
        if found is None:
            return None
        image, pointer = found
        spec = command.plan.group.spec
        maps = self.context.peers.maps(command.device)
        reduced = self.reduced.get(command.id.frame) if command.node == spec.root else None
        work = Work(
            command.id,
            command.node,
            image[None],
            IDENTITY,
            [0],
            (image.shape[1], image.shape[0]),
            {node: to for node, to in command.route.items() if len(command.plan.shares[node]) > 1},
            pointer if maps and not command.later else None,
            peers=self.context.peers.mailboxes(command.plan.devices),
            answer_to=self.answer_to,
            traceparent=self.traces.traceparent(command.id.frame),
        )
        if command.node != spec.root:
            return replace(work, to_frame=NO_MAPS, sources=[*command.sources], objects=[*command.objects])
        stream = spec.streams.get(self.stream)
        if stream is not None and (stream.tiles is not None or stream.roi is not None):
            parts = views(stream.tiles, stream.roi, work.frame_size)
            crops, to_frame = as_crops(parts, command.plan.input_on(spec.root, command.device))
            return replace(work, to_frame=to_frame, sources=[0] * len(parts), deferred=crops)
        if reduced is not None:
            pixels, place = reduced
            work = replace(work, reduced=Reduced(pixels, place if maps else None))
            if not spec.children(spec.root):  # nobody cuts crops
                work = replace(work, images=NO_PIXELS, pointer=None)
        return work


def _by_device(sends: Iterable[Send]) -> dict[str, list[Send]]:
    found: dict[str, list[Send]] = {}
    for command in sends:
        found.setdefault(command.device, []).append(command)
    return found
