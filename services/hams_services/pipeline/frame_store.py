"""The pixels of one stream's frames under way: in shared memory where there is room, else in this process's own."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np

from hams_shared.wire.frame_pool import FramePointer, FramePool, Pixels, Slot, memory_domain

log = logging.getLogger("hams.pipeline")

SPARE = 2
"""Slots beyond the window: one frame waits, one is being read."""
POOLED_BYTES = 1 << 27
"""Largest frame in shared memory: 8K video fits. A pool lasts as long as its stream; larger ones are sent inline."""


@dataclass
class FrameStore:
    """Holds each frame from :meth:`put` to :meth:`drop`. `slots` bounds what is in shared memory."""

    slots: int
    _pool: FramePool | None = None
    _shape: tuple[int, ...] | None = None
    _full: int = 0
    """A pool of this many bytes a slot could not be had."""
    _frames: dict[int, Pixels] = field(default_factory=dict)
    _held: dict[int, Slot] = field(default_factory=dict)
    _blank: Slot | None = None
    _old: list[FramePool] = field(default_factory=list)
    """Pools outgrown, some slot of which is still held."""

    def blank(self) -> Pixels | None:
        """Memory into which the next frame may be read, so that it need not be copied; of the last frame's shape."""
        if self._shape is None:
            return None
        if self._blank is None:
            self._blank = self._take(self._shape)
        return self._blank.pixels if self._blank else None

    def put(self, frame: int, image: Pixels) -> None:
        """Keep a frame; without a copy when it was read into :meth:`blank`."""
        self._shape = image.shape
        slot, self._blank = self._blank, None
        if slot is not None and slot.pixels is not image:
            if slot.pixels.shape == image.shape:
                np.copyto(slot.pixels, image)
            else:
                slot.free()
                slot = None
        if slot is None:
            slot = self._take(image.shape)
            if slot is not None:
                np.copyto(slot.pixels, image)
        if slot is not None:
            slot.publish()
            self._held[frame] = slot
            image = slot.pixels
        self._frames[frame] = image

    def get(self, frame: int) -> tuple[Pixels, FramePointer | None] | None:
        """Return a frame's pixels and where they lie; None when it was dropped."""
        image = self._frames.get(frame)
        if image is None:
            return None
        slot = self._held.get(frame)
        return image, slot.pointer if slot else None

    def drop(self, frame: int) -> tuple[int, int]:
        """Forget a frame; return its width and height."""
        image = self._frames.pop(frame)
        slot = self._held.pop(frame, None)
        if slot is not None:
            slot.free()
        self._sweep()
        return image.shape[1], image.shape[0]

    def close(self) -> None:
        """Delete the shared memory; frames still held are gone."""
        for pool in (*self._old, self._pool):
            if pool is not None:
                pool.close()
        self._pool, self._blank, self._old = None, None, []
        self._held.clear()

    def _take(self, shape: tuple[int, ...]) -> Slot | None:
        size = int(np.prod(shape))
        if size > POOLED_BYTES:
            return None
        if (self._pool is None or size > self._pool.slot_bytes) and not 0 < self._full <= size:
            self._grow(size)
        return self._pool.take(shape) if self._pool else None

    def _grow(self, size: int) -> None:
        try:
            pool = FramePool(self.slots, size) if memory_domain() else None
        except OSError as error:
            log.warning("frames travel inline: no shared memory for %d of %d bytes: %s", self.slots, size, error)
            pool = None
        if pool is None:
            self._full = size
            return
        if self._pool is not None:
            self._old.append(self._pool)
        self._pool = pool
        self._sweep()

    def _sweep(self) -> None:
        for pool in [p for p in self._old if p.idle]:
            pool.close()
            self._old.remove(pool)
