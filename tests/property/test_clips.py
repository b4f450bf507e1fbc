"""Whatever frames and events come, and however slowly clips are written: bounds hold, and clips have their frames."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hams_services.sinks.clip_core import FORGET_S, Clip, ClipCore, Frame
from hams_shared.wire.messages.events import EventKind
from support.clips import at

STREAMS = st.sampled_from(["s0", "s1"])


class ClipMachine(RuleBasedStateMachine):
    """A model beside it keeps every frame that was sent."""

    @initialize(
        before=st.floats(0, 5), after=st.floats(0, 5), room=st.sampled_from([2_000, 20_000, 1_000_000]),
        longest=st.floats(0, 20),
    )  # fmt: skip
    def begin(self, before: float, after: float, room: int, longest: float) -> None:
        self.core = ClipCore(before, after, room, longest)
        self.sent: dict[str, list[Frame]] = {"s0": [], "s1": []}
        self.run = {"s0": 0, "s1": 0}
        self.number = {"s0": -1, "s1": -1}
        self.time = {"s0": 0.0, "s1": 0.0}
        self.got: dict[Clip, list[Frame]] = {}
        self.places: dict[int, int] = {}
        """Of each frame among those of its stream, by its identity."""
        self.began: dict[Clip, int] = {}
        """Place of the oldest frame in the ring when a clip began."""
        self.stopped: dict[Clip, int] = {}
        self.heard = {"s0": 0.0, "s1": 0.0}
        self.sequence, self.now = 0, 0.0
        self.asked: list[str] = []
        self.listed: list[str] = []

    @rule(stream=STREAMS, count=st.integers(1, 30), step=st.floats(0, 0.5), size=st.integers(0, 3000))
    def frames(self, stream: str, count: int, step: float, size: int) -> None:
        for _ in range(count):
            self.number[stream] += 1
            self.time[stream] += step
            one = Frame(f"r{self.run[stream]}", self.number[stream], self.time[stream], bytes(size))
            assert self.core.add_frame(stream, one, self.now)
            self.places[id(one)] = len(self.sent[stream])
            self.sent[stream].append(one)
            self.heard[stream] = self.now

    @rule(stream=STREAMS)
    def again(self, stream: str) -> None:
        if self.sent[stream] and self.now - self.heard[stream] < FORGET_S:
            assert not self.core.add_frame(stream, self.sent[stream][-1], self.now)

    @rule(stream=STREAMS)
    def restart(self, stream: str) -> None:
        self.run[stream] += 1
        self.number[stream], self.time[stream] = -1, 0.0

    @rule(stream=STREAMS, ago=st.floats(-1, 3), kind=st.sampled_from(["rule", "new"]), back=st.integers(0, 1))
    def event(self, stream: str, ago: float, kind: EventKind, back: int) -> None:
        self.sequence += 1
        one = at(self.sequence, sequence=self.sequence, kind=kind, stream=stream, run=f"r{self.run[stream] - back}")
        one = one.model_copy(update={"media_time_s": max(self.time[stream] - ago, 0.0)})
        self.core.add_event(one, self.now)
        self.asked.append(one.id)
        for clip in self.core.clips:
            held = len(self.core._rings[clip.stream].frames)
            self.began.setdefault(clip, len(self.sent[clip.stream]) - held)

    @rule(count=st.integers(1, 50))
    def write(self, count: int) -> None:
        for clip in list(self.core.clips):
            for _ in range(count):
                stopped = clip.stop is not None
                one = self.core.take(clip)
                if one is not None:
                    self.got.setdefault(clip, []).append(one)
                elif stopped:
                    self.finish(clip)
                    break

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)

    def finish(self, clip: Clip) -> None:
        """Of the frames within its span it has all in order, each once, but for those that were lost and counted."""
        got, sent = self.got.get(clip, []), self.sent[clip.stream]
        begin, end = self.began[clip], self.stopped.get(clip, len(sent))
        own = [place for place in range(begin, end) if clip.has(sent[place])]
        places = [self.places[id(one)] for one in got]
        assert places == sorted(set(places))
        assert set(places) <= set(own)
        assert len(places) + clip.lost == len(own)
        assert clip.frames == len(got)
        assert [clip.first, clip.last] == ([got[0].number, got[-1].number] if got else [None, None])
        self.listed += [one.id for one in clip.events]
        self.core.forget(clip)

    @invariant()
    def bounds(self) -> None:
        if hasattr(self, "core"):
            self.core.validate()
            for clip in self.core.clips:
                if clip.stop is not None:
                    self.stopped.setdefault(clip, len(self.sent[clip.stream]))
            waiting = {event.sequence for clip in self.core.clips for event in clip.events}
            assert all(sequence > self.core.settled for sequence in waiting)

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.close()
        self.bounds()
        while self.core.clips:
            self.write(1000)
        assert sorted(self.listed) == sorted(self.asked)
        assert self.core.settled == self.sequence


TestClips = ClipMachine.TestCase
TestClips.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
