"""Which frames of a stream are in the clips of its events: a bounded ring of frames, and the clips made of it. Pure.

The ring of a stream holds its newest frames; it is also the queue of those that write clips. A clip has the frames of
one run of a stream from `before` s before its first event to `after` s after its last one, by the media's time, in
order. An event whose frame is in a clip that still takes frames extends it, unless the clip becomes too long; else it
begins another. So each stream is encoded once, or twice where one clip follows another closely, however much happens.

A clip takes no more frames once one beyond its end came, or one of another run, or none for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from hams_client import Event

RING_BYTES = 192 << 20
"""Of each stream's ring: JPEG frames and their results."""
SLACK_S = 10.0
"""The ring is longer than `before` by so much: events come later than frames, and writing takes time."""
FRAME_BYTES = 512
"""What a frame in the ring costs beside its bytes, about."""
LONGEST_S = 60.0
"""Of a clip, or three times `before` + `after` if that is more."""
SILENCE_S = 10.0
"""A clip whose stream gives no frame for so long and `after` is complete, s."""
OPEN = 8
"""Clips of a stream that take frames at a time; of more, the oldest takes no more."""
JOINED = 1000
"""Events of a clip."""
FORGET_S = 60.0
"""The ring of a stream without frames for so long and `after` is emptied, s."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it waits in the ring. `time` is that of the media, s; `result` as the codec packs it."""

    run: str
    number: int
    time: float
    jpeg: bytes
    result: bytes = b""

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.jpeg) + len(self.result) + FRAME_BYTES


class Ring:
    """The newest frames of a stream: at most `seconds` of the media and `limit` bytes. Each has a place, from 1.

    Those of an earlier run go when the present run is as long as the ring.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds, self._limit = seconds, limit
        self.frames: deque[Frame] = deque()
        self.size = 0
        self.first = 1
        """Place of the oldest frame."""
        self.run = ""
        """Of the newest frame, as the two below; also when that is gone."""
        self.number, self.time = -1, 0.0
        self._began = 0.0

    @property
    def newest(self) -> int:
        """Place of the newest frame."""
        return self.first + len(self.frames) - 1

    def at(self, place: int) -> Frame:
        """Return the frame at a place."""
        return self.frames[place - self.first]

    def follows(self, run: str, number: int) -> bool:
        """Whether a frame is newer than the newest one."""
        return run != self.run or number > self.number

    def add(self, frame: Frame) -> Iterator[tuple[int, Frame]]:
        """Take the next frame; yield those that give way, with their places. Go through all of them."""
        if frame.run != self.run:
            self.run, self._began = frame.run, frame.time
        self.number, self.time = frame.number, frame.time
        self.frames.append(frame)
        self.size += frame.size
        while self.frames and (self.size > self._limit or self._old(self.frames[0])):
            gone = self.frames.popleft()
            self.size -= gone.size
            self.first += 1
            yield self.first - 1, gone

    def _old(self, frame: Frame) -> bool:
        return self.time - (frame.time if frame.run == self.run else self._began) > self._seconds


@dataclass(eq=False)
class Clip:
    """One clip; its frames are those of `run` from `begin` to `end`, s of the media."""

    stream: str
    run: str
    begin: float
    end: float
    heard: float
    """When it began, or its run gave a frame last."""
    events: list[Event] = field(default_factory=list)
    stop: int | None = None
    """The place of the last frame that it may take; None: still open."""
    taken: int = 0
    """The place up to which it has looked."""
    first: int | None = None
    """Its first frame's number."""
    first_time: float = 0.0
    last: int | None = None
    frames: int = 0
    lost: int = 0
    """Frames of its span that left the ring before they were taken."""

    def has(self, frame: Frame) -> bool:
        """Whether the frame is one of its own."""
        return frame.run == self.run and self.begin <= frame.time <= self.end

    def waits_for(self, place: int, frame: Frame) -> bool:
        """Whether the frame at this place is one of its own that is not taken yet."""
        return self.taken < place and (self.stop is None or place <= self.stop) and self.has(frame)

    def counts(self, frame: Frame) -> None:
        """Count a frame that is taken."""
        if self.first is None:
            self.first, self.first_time = frame.number, frame.time
        self.last = frame.number
        self.frames += 1


class ClipCore:
    """The rings and clips of all streams. `before` and `after` in s of the media; `now` is any monotonic time, s."""

    def __init__(self, before: float, after: float, ring_bytes: int = RING_BYTES, longest_s: float = LONGEST_S) -> None:
        self._before, self._after, self._ring_bytes = before, after, ring_bytes
        self._longest = max(longest_s, 3 * (before + after))
        self._rings: dict[str, Ring] = {}
        self._heard: dict[str, float] = {}
        self._seen = 0
        self.clips: list[Clip] = []
        """Those that are not written yet, the oldest first."""

    def add_frame(self, stream: str, frame: Frame, now: float) -> bool:
        """Take a frame; return whether it was taken: one that is not newer than the newest is left out."""
        ring = self._ring(stream)
        if not ring.follows(frame.run, frame.number):
            return False
        if frame.run == ring.run and frame.time < ring.time:  # a clock of the media that was set back
            frame = Frame(frame.run, frame.number, ring.time, frame.jpeg, frame.result)
        clips = self._open(stream)
        for clip in clips:
            if (clip.run == ring.run != frame.run) or (clip.run == frame.run and frame.time > clip.end):
                clip.stop = ring.newest
            elif clip.run == frame.run:
                clip.heard = now
        self._heard[stream] = now
        for place, gone in ring.add(frame):
            for clip in self.clips:
                clip.lost += clip.stream == stream and clip.waits_for(place, gone)
        return True

    def add_event(self, event: Event, now: float) -> None:
        """Take an event that is to be in a clip. Events of a stream come in the order of their time."""
        event = event.model_copy(update={"crop": None})
        self._seen = event.sequence
        time = time_of(event)
        begin, end = time - self._before, time + self._after
        clips = self._open(event.stream)
        for clip in reversed(clips):
            if clip.run == event.run and self._extends(clip, time):
                clip.end = max(clip.end, end)
                clip.events.append(event)
                return
        ring = self._ring(event.stream)
        self._heard.setdefault(event.stream, now)
        clip = Clip(event.stream, event.run, begin, end, now, [event])
        past = event.run != ring.run and any(frame.run == event.run for frame in ring.frames)
        if past or (event.run == ring.run and ring.time > end):
            clip.stop = ring.newest
        elif len(clips) >= OPEN:
            clips[0].stop = ring.newest
        self.clips.append(clip)

    def pass_by(self, sequence: int) -> None:
        """An event came that is to be in no clip."""
        self._seen = sequence

    def has(self, id: str) -> bool:
        """Whether the event with this id is in a clip that is not written yet."""
        return any(event.id == id for clip in self.clips for event in clip.events)

    def take(self, clip: Clip) -> Frame | None:
        """Return the next frame of a clip that is not taken yet; None: there is none now."""
        ring = self._ring(clip.stream)
        stop = ring.newest if clip.stop is None else min(clip.stop, ring.newest)
        for place in range(max(clip.taken + 1, ring.first), stop + 1):
            clip.taken = place
            frame = ring.at(place)
            if clip.has(frame):
                clip.counts(frame)
                return frame
        return None

    def tick(self, now: float) -> None:
        """End the clips of streams without frames; forget streams that have none for long."""
        for clip in self.clips:
            if clip.stop is None and now - clip.heard > self._after + SILENCE_S:
                clip.stop = self._ring(clip.stream).newest
        used = {clip.stream for clip in self.clips}
        for stream, heard in list(self._heard.items()):
            if stream not in used and now - heard > self._after + FORGET_S:
                del self._heard[stream], self._rings[stream]

    def close(self) -> None:
        """No clip gets frames that come from now on."""
        for clip in self.clips:
            if clip.stop is None:
                clip.stop = self._ring(clip.stream).newest

    def forget(self, clip: Clip) -> None:
        """A clip is written."""
        self.clips.remove(clip)

    @property
    def complete(self) -> int:
        """How many clips take no more frames, and wait to be written."""
        return sum(clip.stop is not None for clip in self.clips)

    @property
    def settled(self) -> int:
        """The sequence up to which all events are dealt with."""
        return min((event.sequence - 1 for clip in self.clips for event in clip.events), default=self._seen)

    def _extends(self, clip: Clip, time: float) -> bool:
        fits = time + self._after - clip.begin <= self._longest and len(clip.events) < JOINED
        return fits and clip.begin <= time - self._before and time <= clip.end

    def _open(self, stream: str) -> list[Clip]:
        return [clip for clip in self.clips if clip.stream == stream and clip.stop is None]

    def _ring(self, stream: str) -> Ring:
        if stream not in self._rings:
            self._rings[stream] = Ring(self._before + SLACK_S, self._ring_bytes)
        return self._rings[stream]

    def validate(self) -> None:
        """Raise AssertionError when its books are wrong, or a bound does not hold."""
        for stream, ring in self._rings.items():
            assert ring.size == sum(frame.size for frame in ring.frames) <= self._ring_bytes
            spans = [frame.time for frame in ring.frames if frame.run == ring.run]
            assert spans == sorted(spans)
            assert not spans or spans[-1] - spans[0] <= self._before + SLACK_S
            assert len(self._open(stream)) <= OPEN
        for clip in self.clips:
            assert 0 < len(clip.events) <= JOINED
            assert clip.end - clip.begin <= self._longest + 1e-6


def time_of(event: Event) -> float:
    """Return the time of an event's frame, s of the media where it has one; of its own clock else."""
    return event.captured if event.media_time_s is None else event.media_time_s
