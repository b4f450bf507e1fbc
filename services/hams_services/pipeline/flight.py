"""One frame on its way through a group, and what is to be done about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hams_services.pipeline.join import Join
from hams_services.pipeline.luma import Luma
from hams_services.pipeline.routing import Replicas
from hams_services.pipeline.selection_rules import SelectionRules
from hams_services.pipeline.tracking.tracks import Track
from hams_shared.wire.frames import FrameId, Given, Output
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan

MAX_ATTEMPTS = 8
"""A lossless frame fails after so many failed attempts (deadline or refusal). A lost device is no failed attempt."""

CANARY_S = 2.0
"""How long a frame waits for the canary's answer at most, s: later results of the stream wait with it."""


@dataclass(frozen=True)
class Shot:
    """What is known of a frame when it is read."""

    media_time_s: float | None = None
    """s since the stream's first frame; None: a single image."""
    size: tuple[int, int] = (0, 0)
    """Width and height, pixels."""
    luma: Luma | None = None
    """A small grey image of it, where the group's rules look at one."""


UNKNOWN = Shot()


class Outcome(Enum):
    """How a frame ends."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    FAILED = "failed"


@dataclass(frozen=True)
class Send:
    """Publish the frame to the device of the root, or of a node whose objects are chosen here."""

    id: FrameId
    plan: Plan
    route: dict[str, str]
    """By node: the device that serves it."""
    node: str
    objects: Sequence[Given] = ()
    """Of a child: what it is to look at."""
    sources: Sequence[int] = ()
    """Which of its parent's objects these are."""
    later: bool = False
    """No frame waits for the answer: the frame's pixels go along, since its memory is soon used again."""

    @property
    def device(self) -> str:
        """Where the frame goes."""
        return self.route[self.node]


@dataclass(frozen=True)
class Close:
    """The frame has ended: publish its result if it was delivered, and forget its pixels."""

    frame: int
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    """The failed node's error text."""
    objects: list[dict[str, Any]] = field(default_factory=list)
    id: FrameId | None = None
    """Of the attempt that was delivered."""
    record: GroupRecord | None = None
    """Of the group, that it ran under."""
    join: Join | None = None
    submitted: float = 0.0
    """Monotonic time, s."""
    shot: Shot = UNKNOWN
    tracks: Sequence[Track] = ()


@dataclass(frozen=True)
class Hold:
    """The frame is complete and waits for an older one: its pixels are needed no more."""

    frame: int


Command = Send | Close | Hold


@dataclass
class Flight:
    """One frame under way."""

    frame: int
    captured: float
    submitted: float
    attempt: int = -1
    failed_attempts: int = 0
    """Attempts that ended by deadline or refusal."""
    plan: Plan | None = None
    id: FrameId | None = None
    """Of this attempt."""
    join: Join | None = None
    rules: SelectionRules | None = None
    """By which this attempt is computed; None: nothing is chosen."""
    followed: bool = False
    """Whether its objects have tracks."""
    route: dict[str, str] = field(default_factory=dict)
    """By node: the device that serves it."""
    outstanding: set[str] = field(default_factory=set)
    """Nodes that have this attempt, and have not answered."""
    reserved: set[str] = field(default_factory=set)
    """Those, and the nodes whose objects are not chosen yet: the attempt counts at their devices."""
    failed_on: dict[str, set[str]] = field(default_factory=dict)
    """By node: devices on which its inference failed for this frame."""
    deadline: float = 0.0
    retry_at: float | None = None
    """When to send (again), if not under way; None while an attempt runs."""
    objects: list[dict[str, Any]] | None = None
    """The joined result, once complete."""
    shot: Shot = UNKNOWN
    detect: bool = True
    """Whether the root looks at it; else its objects are predicted."""
    paused_s: float = 0.0
    """How long the gate was closed before it, in all, s of the media."""
    root: Output | None = None
    """The root's answer to this attempt, before tracks were made of it."""
    chosen: Output | None = None
    """What the root's answer is taken to be in all attempts, once tracks were made of it."""
    tracks: Sequence[Track] = ()
    """As the tracker has them, where there is one."""
    picks: dict[str, list[int]] = field(default_factory=dict)
    """By node whose objects are chosen here: which of its parent's; kept for another attempt where these stay."""
    record: GroupRecord | None = None
    """Of the group, that this attempt runs under."""
    canary: bool = False
    """Whether the candidate of the group is to compute it."""
    replicas: Replicas | None = None
    """Where `reserved` counts."""

    def begin(self, stream: str, plan: Plan, replicas: Replicas, rules: SelectionRules | None) -> FrameId:
        """Begin another attempt, under `plan`, and return its id."""
        if rules is not None:
            self.rules, self.picks = rules, rules.picks_of(self.rules, self.picks)
            self.detect = self.detect or not rules.tracks
            if not rules.gives_all:
                self.chosen, self.followed = None, False
            same = None if self.chosen is None else rules.spec.root  # whose objects are those of the attempt before
            self.picks = {node: one for node, one in self.picks.items() if rules.spec.nodes[node].parent == same}
        self.route = replicas.choose(plan, self.route)
        self.reserved = set(self.route)
        self.attempt += 1
        self.plan = plan
        self.id = FrameId(plan.group.spec.name, stream, self.frame, self.attempt, plan.epoch, self.captured)
        self.join, self.root = Join(plan.group.spec), None
        self.retry_at = None
        return self.id

    def needs(self, devices: Collection[str]) -> bool:
        """Whether one of `devices` has the attempt, or is to be given objects of it. No frame waits for slow nodes."""
        slow = frozenset[str]() if self.rules is None else self.rules.slow
        return any(self.route[node] in devices for node in self.outstanding | (self.reserved - slow))

    def served(self, node: str) -> None:
        """The device of `node` has done its work."""
        assert self.replicas is not None
        self.replicas.served(node, self.route[node])

    def erred(self, node: str) -> None:
        """The device of `node` may be at fault that there is no answer."""
        assert self.replicas is not None
        self.replicas.failed(node, self.route[node])

    def another_may_do(self, node: str) -> bool:
        """Take a failure of the attempt at `node`; return whether it is the first, and another device may do it."""
        assert self.plan is not None
        failed_on = self.failed_on.setdefault(node, set())
        failed_on.add(self.route[node])
        others = self.plan.shares[node].keys() - failed_on
        return len(failed_on) == 1 and bool(others) and self.failed_attempts + 1 < MAX_ATTEMPTS

    @property
    def seen(self) -> bool:
        """Whether all is known of it that its tracks are made of."""
        return self.join is not None and (not self.detect or self.root is not None)

    @property
    def complete(self) -> bool:
        """Whether all nodes have answered."""
        return self.objects is not None

    def waits_for(self, node: str, parent: str | None) -> bool:
        """Whether the group's devices of `node`, below `parent`, have it or will have it, and have not answered."""
        if self.canary:
            return False
        sent = node in self.outstanding and parent not in self.outstanding
        return sent or (parent is None and self.retry_at is not None)

    def patience_s(self, deadline_s: float) -> float:
        """How long an attempt may take, s."""
        return min(deadline_s, CANARY_S) if self.canary else deadline_s

    def answered(self, node: str) -> None:
        """The node has answered the attempt, or is not asked."""
        self.outstanding.discard(node)
        if node in self.reserved:
            assert self.replicas is not None
            self.reserved.remove(node)
            self.replicas.release(node, self.route[node])

    def release(self) -> None:
        """The attempt is over: nothing is outstanding for it at any device."""
        for node in tuple(self.reserved):
            self.answered(node)
        self.outstanding.clear()

    def delivered(self) -> Close:
        """Return its end, once it is complete."""
        assert self.objects is not None
        return Close(
            self.frame,
            Outcome.DELIVERED,
            objects=self.objects,
            id=self.id,
            record=self.record,
            join=self.join,
            submitted=self.submitted,
            shot=self.shot,
            tracks=self.tracks,
        )

    def validate(self) -> None:
        """Raise AssertionError unless its outstanding nodes, route and plan fit together; for tests."""
        at = f"frame {self.frame}, attempt {self.attempt}"
        assert self.outstanding <= self.route.keys(), f"{at}: {self.outstanding} outstanding, but were not sent"
        assert self.failed_attempts < MAX_ATTEMPTS, f"{at}: it should have been given up"
        assert self.failed_attempts <= self.attempt + 1, f"{at}: {self.failed_attempts} attempts have failed"
        assert (self.attempt < 0) == (self.plan is None) == (self.join is None), f"{at}: sent under no plan"
        if self.plan is not None:
            assert self.route.keys() == self.plan.shares.keys(), f"{at}: its route misses nodes"
            assert self.outstanding <= self.reserved, f"{at}: {self.outstanding - self.reserved} are not counted"
            assert all(to in self.plan.shares[node] for node, to in self.route.items()), (
                f"{at}: its route is not the plan's"
            )
        if self.complete:
            assert not self.outstanding, f"{at}: it is complete, and {self.outstanding} are outstanding"
            assert self.retry_at is None, f"{at}: it is complete, and will be sent again"
        elif self.retry_at is None:
            waits = self.seen and self.chosen is None
            assert self.outstanding or waits, f"{at}: it waits for no node"
            assert not waits or self.deadline == math.inf, f"{at}: it waits for older frames, and has a deadline"
