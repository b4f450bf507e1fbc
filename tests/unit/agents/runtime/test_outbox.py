"""What leaves a device: one answer per frame, several together while it has enough to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from hams_agents.runtime.data_plane import HELD, HELD_S, QUICK_S, Outbox
from hams_agents.runtime.serving import Finished, Visit
from hams_shared.bus.mailbox import Outgoing
from hams_shared.errors import FrameGoneError, HamsError, RefusedError
from hams_shared.wire.frames import (
    MAX_PIXELS,
    DeferredCrops,
    FrameId,
    Output,
    Work,
    unpack_outputs,
    unpack_works,
)

HERE, AWAY = "h.b.u", "away.b.u"


def work(frame: int, node: str = "face", stream: str = "cam", **more: Any) -> Work:
    frame_id = FrameId("g", stream, frame, 0, 1, 0.0)
    return Work(frame_id, node, np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 3)), [0], (2, 2), **more)


class Device:
    """An outbox, and the work that was queued with its visits."""

    def __init__(self) -> None:
        self.queued: list[tuple[Work, Visit]] = []
        self.refuses: HamsError | None = None
        self.outbox = Outbox(HERE, self._accept)
        self.now = 100.0

    def _accept(self, work: Work, visit: Visit) -> HamsError | None:
        if self.refuses is None:
            self.queued.append((work, visit))
        return self.refuses

    def arrive(self, *works: Work) -> list[Outgoing]:
        return self.outbox.arrive(works, self.now, busy=False)

    def finish(self, *children: tuple[str, Work], busy: bool = False, after: float = 0.001) -> list[Outgoing]:
        """Finish the oldest queued work."""
        self.now += after
        done, visit = self.queued.pop(0)
        output = Output(done.id, done.node, HERE, [])
        return self.outbox.finished([Finished(visit, output, list(children))], self.now, busy=busy)


def answers(messages: list[Outgoing]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Subject of each message, and frame and node of each of its outputs."""
    return [(subject, [(o.id.frame, o.node) for o in unpack_outputs(data)]) for subject, data, _ in messages]


def test_a_frame_is_answered_once_for_all_nodes_served_here() -> None:
    device = Device()
    assert device.arrive(work(7)) == []
    assert device.finish((HERE, work(7, "age")), (HERE, work(7, "eyes"))) == []
    assert device.finish((HERE, work(7, "iris"))) == []
    assert device.finish() == []
    [(subject, outputs)] = answers(device.finish())
    assert subject == "hams.v1.answer.g.cam"
    assert sorted(outputs) == [(7, "age"), (7, "eyes"), (7, "face"), (7, "iris")]
    assert device.queued == []


def test_children_on_one_other_device_go_there_in_one_message_before_the_answer() -> None:
    device = Device()
    device.arrive(work(7))
    first, second = device.finish((AWAY, work(7, "age")), (AWAY, work(7, "eyes")))
    assert first[0] == f"hams.v1.work.{AWAY}"
    assert [one.node for one in unpack_works(first[1])] == ["age", "eyes"]
    assert answers([second]) == [("hams.v1.answer.g.cam", [(7, "face")])]


def test_work_that_came_together_is_answered_together_frame_by_frame() -> None:
    device = Device()
    device.arrive(work(7, "age"), work(7, "eyes"), work(8, "age"))
    assert device.finish() == []
    assert answers(device.finish()) == [("hams.v1.answer.g.cam", [(7, "age"), (7, "eyes")])]
    assert answers(device.finish()) == [("hams.v1.answer.g.cam", [(8, "age")])]


def test_answers_wait_for_each_other_while_the_device_has_enough_to_do() -> None:
    device = Device()
    device.arrive(*(work(frame) for frame in range(HELD + 1)))
    device.finish(busy=True)  # nothing was finished just before: it is sent
    for _ in range(HELD - 1):
        assert device.finish(busy=True) == []
    device.arrive(work(9))
    [(_, outputs)] = answers(device.finish(busy=True))
    assert outputs == [(frame, "face") for frame in range(1, HELD + 1)]


@pytest.mark.parametrize("case", ["idle", "slow", "long", "flushed"])
def test_an_answer_does_not_wait_when(case: str) -> None:
    device = Device()
    device.arrive(*(work(frame) for frame in range(3)))
    device.finish(busy=True)
    assert device.finish(busy=True) == []
    match case:
        case "idle":
            messages = device.finish(busy=False)
        case "slow":
            messages = device.finish(busy=True, after=2 * QUICK_S)
        case "long":
            device.now += HELD_S
            messages = device.finish(busy=True)
        case _:
            assert answers(device.outbox.flush()) == [("hams.v1.answer.g.cam", [(1, "face")])]
            assert device.outbox.flush() == []
            return
    assert answers(messages) == [("hams.v1.answer.g.cam", [(1, "face"), (2, "face")])]


def test_streams_get_answers_of_their_own() -> None:
    device = Device()
    device.arrive(work(0), work(1), work(1, stream="door"))
    device.finish(busy=True)
    device.finish(busy=True)
    assert answers(device.finish()) == [
        ("hams.v1.answer.g.cam", [(1, "face")]),
        ("hams.v1.answer.g.door", [(1, "face")]),
    ]


def test_what_is_refused_is_part_of_the_answer() -> None:
    device = Device()
    device.refuses = RefusedError("the queue is full")
    [(_, data, _)] = device.arrive(work(3))
    [output] = unpack_outputs(data)
    assert output.error is not None
    assert output.error["code"] == "refused"
    device.refuses = None
    device.arrive(work(4))
    device.refuses = RefusedError("the queue is full")
    [(_, data, _)] = device.finish((HERE, work(4, "age")))
    assert {o.node: o.error is None for o in unpack_outputs(data)} == {"face": True, "age": False}


def test_work_whose_pixels_are_gone_is_answered_with_the_reason() -> None:
    device = Device()
    gone = replace(work(3, "age"), unreadable=FrameGoneError("too late"))
    assert device.arrive(work(3, "eyes"), gone) == []
    outputs = unpack_outputs(device.finish()[0][1])
    assert {o.node: o.error and o.error["code"] for o in outputs} == {"age": "frame-gone", "eyes": None}


def test_work_says_into_which_mailboxes_its_answer_and_crops_go() -> None:
    device = Device()
    post = {"answer_to": "hams-mailbox-p", "peers": {AWAY: "hams-mailbox-a", HERE: "hams-mailbox-h"}}
    device.arrive(work(7, **post))
    crops, answer = device.finish((AWAY, work(7, "age", **post)))
    assert (crops.mailbox, answer.mailbox) == ("hams-mailbox-a", "hams-mailbox-p")
    [passed_on] = unpack_works(crops.data)
    assert (passed_on.answer_to, passed_on.peers) == (post["answer_to"], post["peers"])


def test_crops_that_no_message_takes_fail_their_frame_alone() -> None:
    """The device goes on: a thread that ended would end all of its groups."""
    device = Device()
    device.arrive(work(7), work(8))
    size = (1280, 1280)
    many = 1 + MAX_PIXELS // (size[0] * size[1] * 3)
    deferred = DeferredCrops(size, 0, [size] * many, [None] * many)
    large = replace(work(7, "age"), deferred=deferred, sources=[0] * many, to_frame=np.zeros((many, 2, 3)))
    [answer] = device.finish((HERE, work(7, "eyes")), (AWAY, large))
    [output] = unpack_outputs(answer.data)
    assert output.error is not None
    assert output.error["code"] == "bad-task"
    assert "what node face gave cannot be sent: ValueError: deferred" in output.error["text"]
    assert [one.id.frame for one, _ in device.queued] == [8]  # nor is its other child's work done
    crops, answer = device.finish((AWAY, work(8, "age")))
    assert [one.error for one in unpack_outputs(answer.data)] == [None]
    assert crops[0] == f"hams.v1.work.{AWAY}"


def test_an_answer_that_cannot_be_packed_fails_its_frame_and_not_those_that_wait_with_it() -> None:
    device = Device()
    device.arrive(work(0), work(1), work(2))
    device.finish(busy=True)
    assert device.finish(busy=True) == []
    done, visit = device.queued.pop(0)
    strange = Finished(visit, Output(done.id, done.node, HERE, [{"objects": [object()]}]))
    [answer] = device.outbox.finished([strange], device.now, busy=False)
    first, second = unpack_outputs(answer.data)
    assert (first.id.frame, first.error) == (1, None)
    assert second.id.frame == 2
    assert second.error is not None
    text = "what node face gave cannot be sent: TypeError: object cannot be written in a message"
    assert second.error["text"] == text


def test_answers_to_two_mailboxes_are_two_messages() -> None:
    """A pipeline that was restarted sends a frame again that its predecessor had sent."""
    device = Device()
    device.arrive(work(7, answer_to="hams-mailbox-old"), work(8, answer_to="hams-mailbox-new"), work(9))
    sent = [one for _ in range(3) for one in device.finish(busy=True)] + device.outbox.flush()
    assert sorted(one.mailbox for one in sent) == ["", "hams-mailbox-new", "hams-mailbox-old"]
