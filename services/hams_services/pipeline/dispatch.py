"""Sends the frames of one stream to the devices of their root node: into mailboxes at once, else by the broker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from hams_services.pipeline.core import Send
from hams_services.pipeline.routing import SharedMemoryPeers
from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailboxes, Outgoing
from hams_shared.bus.protocol import Bus
from hams_shared.wire import subjects
from hams_shared.wire.frame_pool import FrameStore
from hams_shared.wire.frames import Reduced, Work, pack_works

NO_PIXELS = np.empty((1, 0, 0, 3), np.uint8)
IDENTITY = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])


@dataclass(frozen=True)
class Dispatch:
    """Frames for one device share a message."""

    bus: Bus
    peers: SharedMemoryPeers
    mailboxes: Mailboxes
    answer_to: str
    """The mailbox of the stream."""
    frames: FrameStore
    reduced: FrameStore
    """Of the frames that have one: the smaller picture."""

    def by_mailbox(self, sends: Iterable[Send]) -> list[Send]:
        """Send frames into the mailboxes of their devices; return those that have to go by the broker."""
        left: list[Send] = []
        for device, some in _by_device(sends).items():
            # A message with pixels is too large for a mailbox, and is packed once.
            small = self.peers.mailbox(device) and all(self._in_memory(command.id.frame) for command in some)
            message = self._message(device, some) if small else None
            if message is None or not self.mailboxes.send(message):
                left += some
        return left

    async def by_broker(self, sends: Iterable[Send]) -> None:
        """Publish frames. Raises BrokerError and DeadlineError."""
        for device, some in _by_device(sends).items():
            message = self._message(device, some)
            if message is not None:
                await chunks.publish(self.bus, message.subject, message.data)

    def _in_memory(self, frame: int) -> bool:
        found = self.frames.get(frame)
        return found is not None and found[1] is not None

    def _message(self, device: str, sends: list[Send]) -> Outgoing | None:
        """Return the work of frames for one device; None when all were closed meanwhile."""
        works = [work for command in sends if (work := self._work(command)) is not None]
        return Outgoing(subjects.work(device), pack_works(works), self.peers.mailbox(device)) if works else None

    def _work(self, command: Send) -> Work | None:
        """Return the root's work for a frame; None when the frame was closed meanwhile."""
        found = self.frames.get(command.id.frame)
        if found is None:
            return None
        image, pointer = found
        spec = command.plan.group.spec
        maps = self.peers.maps(_device(command))
        reduced = self.reduced.get(command.id.frame)
        work = Work(
            command.id,
            spec.root,
            image[None],
            IDENTITY,
            [0],
            (image.shape[1], image.shape[0]),
            {node: to for node, to in command.route.items() if len(command.plan.shares[node]) > 1},
            pointer if maps else None,
            peers=self.peers.mailboxes(command.plan.devices),
            answer_to=self.answer_to,
        )
        if reduced is not None:
            pixels, place = reduced
            work = replace(work, reduced=Reduced(pixels, place if maps else None))
            if not spec.children(spec.root):  # nobody cuts crops
                work = replace(work, images=NO_PIXELS, pointer=None)
        return work


def _by_device(sends: Iterable[Send]) -> dict[str, list[Send]]:
    found: dict[str, list[Send]] = {}
    for command in sends:
        found.setdefault(_device(command), []).append(command)
    return found


def _device(command: Send) -> str:
    """Return the device that a frame is sent to."""
    return command.route[command.plan.group.spec.root]
