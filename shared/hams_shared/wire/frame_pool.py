"""Frames in shared memory: written once by their owner, read in place by any process of the same host.

A pool is one file in the memory file system (``/dev/shm``), mapped by its owner for writing and by readers read-only.
It has a fixed number of slots, so it is bounded; what finds no free slot travels inline instead.

    segment  = generations (one page: a u64 per slot) | slot 0 | slot 1 | …
    pointer  = (segment, slot, generation, offset of the pixels)

A slot's generation is even while its content stands and odd while it is free or being written; it only grows. A reader
looks at it before and after it has used the pixels (:meth:`FrameView.check`): equal to the pointer's both times means
that what it read was the frame that was meant, whole.

The owner holds a lock on its file for as long as it lives. A file that can be locked has no owner any more;
:func:`remove_abandoned` deletes such files.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from hams_shared.errors import FrameGoneError, FrameUnreachableError, MessageError
from hams_shared.locks import lock

log = logging.getLogger("hams.pipeline")

Pixels = NDArray[np.uint8]

FOLDER = Path("/dev/shm")
PREFIX = "hams-frames-"
PAGE = 4096
MAX_SLOTS = PAGE // 8
MAX_SEGMENT = 1 << 32
"""Largest segment a reader maps, bytes."""
POOLED_BYTES = 1 << 27
"""Largest frame in shared memory: 8K video fits. A pool lasts as long as its stream; larger ones are sent inline."""
TRY_AGAIN = 256
"""Of so many frames for which there was no room, one looks whether there is room by now."""


def memory_domain(folder: Path = FOLDER) -> str:
    """Name the memory file system this process sees: equal in two processes that can share frames, else not.

    The kernel's boot id distinguishes hosts; the file system's device number, IPC namespaces of one host.
    Empty where there is no such file system.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{folder.stat().st_dev}"
    except OSError:
        return ""


class FramePointer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Position of a frame in shared memory."""

    segment: str
    slot: Annotated[int, Meta(ge=0, lt=MAX_SLOTS)]
    generation: Annotated[int, Meta(gt=0, le=(1 << 63) - 1)]
    offset: Annotated[int, Meta(ge=PAGE, lt=MAX_SEGMENT)]
    """Of the pixels in the segment, bytes."""

    def __post_init__(self) -> None:
        named = self.segment.startswith(PREFIX) and self.segment.removeprefix(PREFIX).isalnum()
        if not named or self.generation % 2:
            raise ValueError("frame pointer: not [segment, slot, generation, offset]")


@dataclass(eq=False)
class Slot:
    """One slot while its owner holds it."""

    pool: FramePool
    index: int
    pixels: Pixels
    """H×W×3, for the owner to fill."""
    pointer: FramePointer | None = None
    """Set once the content stands."""

    def publish(self) -> FramePointer:
        """The content stands from now on: return the pointer to it."""
        self.pointer = self.pool._publish(self.index)
        return self.pointer

    def free(self) -> None:
        """Give the slot back; idempotent. Readers that still look at it will notice."""
        self.pool._free(self)


class FramePool:
    """The owner's side: a bounded number of slots of equal size.

    Raises:
        OSError: the memory file system is full, missing or not writable.
    """

    def __init__(self, slots: int, slot_bytes: int, folder: Path = FOLDER) -> None:
        if not 0 < slots <= MAX_SLOTS:
            raise ValueError(f"a pool has 1 to {MAX_SLOTS} slots, not {slots}")
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // PAGE) * PAGE
        size = PAGE + slots * self.slot_bytes
        self._path, self._fd = _created(folder)
        self._name = self._path.name
        try:
            os.posix_fallocate(self._fd, 0, size)  # now, as an error: a full /dev/shm would kill us with SIGBUS later
            self._map = mmap.mmap(self._fd, size)
        except BaseException:
            os.unlink(self._path)
            os.close(self._fd)
            raise
        self._generations = np.frombuffer(self._map, "<u8", slots)
        self._generations[:] = 1
        self._vacant = list(range(slots - 1, -1, -1))
        self._held: set[int] = set()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether no slot is held."""
        return not self._held

    def take(self, shape: tuple[int, ...]) -> Slot | None:
        """Take a slot for pixels of `shape`; None when all are held or too small."""
        size = math.prod(shape)
        if self._closed or not self._vacant or size > self.slot_bytes:
            return None
        index = self._vacant.pop()
        self._held.add(index)
        pixels = np.frombuffer(self._map, np.uint8, size, PAGE + index * self.slot_bytes).reshape(shape)
        return Slot(self, index, pixels)

    def _publish(self, index: int) -> FramePointer:
        self._generations[index] += 1
        return FramePointer(self._name, index, int(self._generations[index]), PAGE + index * self.slot_bytes)

    def _free(self, slot: Slot) -> None:
        if slot.index not in self._held or self._closed:
            return
        if slot.pointer is not None:
            self._generations[slot.index] += 1
            slot.pointer = None
        self._held.remove(slot.index)
        self._vacant.append(slot.index)

    def close(self) -> None:
        """Delete the segment; readers that have it mapped see every slot as gone. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._generations += np.uint64(1) + self._generations % 2  # all odd
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):  # the memory is freed now; processes that still map it read zeros
            self._map.madvise(mmap.MADV_REMOVE, PAGE, len(self._map) - PAGE)
        os.close(self._fd)


def _created(folder: Path) -> tuple[Path, int]:
    """Create the file of a segment, and lock it; until then :func:`remove_abandoned` may take it for abandoned."""
    while True:
        path = folder / (PREFIX + secrets.token_hex(16))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if lock(fd) and path.exists():
            return path, fd
        os.close(fd)


@dataclass
class FrameStore:
    """The pixels of one stream's frames under way: in shared memory where there is room, else in this process's own.

    It holds each frame from :meth:`put` to :meth:`drop`. `slots` bounds the frames in shared memory, and may be set.
    """

    slots: int
    _pool: FramePool | None = None
    _shape: tuple[int, ...] | None = None
    _full: int = 0
    """The size of a slot, bytes, for which there was no room; 0: there has been room."""
    _refused: int = 0
    """Frames since then that a pool was not made for."""
    _frames: dict[int, Pixels] = field(default_factory=dict)
    _held: dict[int, Slot] = field(default_factory=dict)
    _blanks: list[Slot] = field(default_factory=list)
    """Given out to be read into."""
    _old: list[FramePool] = field(default_factory=list)
    """Pools with slots that are too small now, some of which are still held."""

    def blanks(self, count: int) -> list[Pixels | None]:
        """Return memory, of the last frame's shape, to read the next frames into; that saves a copy of each."""
        while self._shape is not None and len(self._blanks) < count:
            slot = self._take(self._shape)
            if slot is None:
                break
            self._blanks.append(slot)
        return [self._blanks[n].pixels if n < len(self._blanks) else None for n in range(count)]

    def put(self, frame: int, image: Pixels) -> None:
        """Keep a frame; without a copy when it was read into one of :meth:`blanks`."""
        self._shape = image.shape
        slot = next((slot for slot in self._blanks if slot.pixels is image), None)
        if slot is not None:
            self._blanks.remove(slot)
        slot = slot or self._take(image.shape)
        if slot is not None:
            if slot.pixels is not image:
                np.copyto(slot.pixels, image)
            slot.publish()
            self._held[frame] = slot
            image = slot.pixels
        self._frames[frame] = image

    def taken(self, images: Collection[Pixels]) -> None:
        """Give back the memory of :meth:`blanks` that none of `images` was read into."""
        for slot in [slot for slot in self._blanks if not any(slot.pixels is image for image in images)]:
            self._blanks.remove(slot)
            slot.free()

    def abandon(self) -> Callable[[], None]:
        """Use the memory of :meth:`blanks` no more: a read that is left behind may still write into it.

        Call what is returned once that read has ended: it gives the memory back.
        """
        slots, self._blanks = self._blanks, []

        def give_back() -> None:
            for slot in slots:
                slot.free()
            self._sweep()

        return give_back

    def get(self, frame: int) -> tuple[Pixels, FramePointer | None] | None:
        """Return a frame's pixels and their place in shared memory; None when it was dropped."""
        image = self._frames.get(frame)
        if image is None:
            return None
        slot = self._held.get(frame)
        return image, slot.pointer if slot else None

    def drop(self, frame: int) -> None:
        """Forget a frame; one that is not held is none."""
        self._frames.pop(frame, None)
        slot = self._held.pop(frame, None)
        if slot is not None:
            slot.free()
        self._sweep()

    def close(self) -> None:
        """Delete the shared memory; frames still held are gone."""
        for pool in (*self._old, self._pool):
            if pool is not None:
                pool.close()
        self._pool, self._blanks, self._old = None, [], []
        self._held.clear()

    def _take(self, shape: tuple[int, ...]) -> Slot | None:
        size = math.prod(shape)
        if size > POOLED_BYTES:
            return None
        slots, slot_bytes = (self._pool.slots, self._pool.slot_bytes) if self._pool else (0, 0)
        wanted = max(size, slot_bytes)  # a pool with more slots takes what the old one took
        if (size > slot_bytes or self.slots > slots) and self._may_be_room(wanted):
            self._grow(wanted)
        return self._pool.take(shape) if self._pool else None

    def _may_be_room(self, size: int) -> bool:
        """Whether to look for room: there was none for so much, or less, but a while ago."""
        if not 0 < self._full <= size:
            return True
        self._refused = (self._refused + 1) % TRY_AGAIN
        return self._refused == 0

    def _grow(self, size: int) -> None:
        known = 0 < self._full <= size
        try:
            pool = FramePool(self.slots, size) if memory_domain() else None
        except OSError as error:
            if not known:
                log.warning("frames travel inline: no shared memory for %d of %d bytes: %s", self.slots, size, error)
            pool = None
        if pool is None:
            self._full = self._full if known else size
            return
        if known:
            self._full = 0
        if self._pool is not None:
            self._old.append(self._pool)
        self._pool = pool
        self._sweep()

    def _sweep(self) -> None:
        for pool in [p for p in self._old if p.idle]:
            pool.close()
            self._old.remove(pool)


@dataclass(eq=False)
class FrameView:
    """A frame as a reader sees it."""

    pixels: Pixels
    _generations: NDArray[np.uint64]
    _pointer: FramePointer

    def check(self) -> None:
        """Raise FrameGoneError unless the frame still stands, and so all that was read of it was right."""
        if int(self._generations[self._pointer.slot]) != self._pointer.generation:
            raise FrameGoneError("the frame was given up by its owner while it was being read")


@dataclass
class FrameReader:
    """A reader's side: maps segments when it first meets them."""

    folder: Path = FOLDER
    _segments: dict[str, mmap.mmap] = field(default_factory=dict)

    @cached_property
    def domain(self) -> str:
        """The name of its memory file system; see :func:`memory_domain`."""
        return memory_domain(self.folder)

    def view(self, pointer: FramePointer, shape: tuple[int, ...]) -> FrameView:
        """Return the frame, its pixels read-only and in place.

        Raises:
            MessageError: the pointer leads out of its segment.
            FrameUnreachableError: the segment cannot be mapped here: another host, IPC namespace or user.
            FrameGoneError: the slot holds another frame by now.
        """
        memory = self._segment(pointer.segment)
        size = math.prod(shape)
        if pointer.offset + size > len(memory):
            raise MessageError("frame pointer: outside its segment")
        generations = np.frombuffer(memory, "<u8", MAX_SLOTS)
        pixels = np.frombuffer(memory, np.uint8, size, pointer.offset).reshape(shape)
        view = FrameView(pixels, generations, pointer)
        view.check()
        return view

    def _segment(self, name: str) -> mmap.mmap:
        known = self._segments.get(name)
        if known is not None:
            return known
        for old in [n for n in self._segments if not (self.folder / n).exists()]:
            del self._segments[old]  # its owner is gone
        try:
            fd = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                size = os.fstat(fd).st_size
                if not PAGE < size <= MAX_SEGMENT:
                    raise FrameUnreachableError(f"segment {name} has {size} bytes")
                memory = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise FrameUnreachableError(f"there is no segment {name} here", "frames will travel inline") from None
        except OSError as error:
            raise FrameUnreachableError(
                f"segment {name} cannot be mapped: {error.strerror}", "frames will travel inline"
            ) from None
        self._segments[name] = memory
        return memory


def remove_abandoned(folder: Path = FOLDER) -> int:
    """Delete the segments whose owners have died; return how many."""
    removed = 0
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), _opened(path) as fd:
            if lock(fd):
                path.unlink()
                removed += 1
    return removed


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)
