from __future__ import annotations

import pytest

from hams_services.pipeline.core import HELD, StreamCore
from hams_services.pipeline.flight import MAX_ATTEMPTS, Close, Command, Hold, Outcome, Send
from hams_services.pipeline.retries import retry_pause
from support.build import output, plan

A = plan(1, {"det": "h.b.one", "age": "h.b.two"})
B = plan(2, {"det": "h.b.three", "age": "h.b.three"})
BOX = [[{"box": [0, 0, 1, 1], "score": 1.0, "label": "face"}]]


def core(*, lossless: bool, window: int = 2) -> StreamCore:
    stream = StreamCore("cam", lossless, window, deadline_s=1.0)
    assert stream.route(A, (), 0.0) == []
    return stream


def submit(stream: StreamCore, now: float = 0.0) -> list[Command]:
    return stream.submit(100.0, now)[1]


def answer(stream: StreamCore, send: Send, now: float = 0.1) -> list[Command]:
    first = stream.output(output(send.id, "det", BOX, [0]), now)
    return first + stream.output(output(send.id, "age", [{"value": 30}], [0]), now)


def sends(commands: list[Command]) -> list[Send]:
    return [c for c in commands if isinstance(c, Send)]


def closes(commands: list[Command]) -> list[tuple[int, Outcome, str]]:
    return [(c.frame, c.outcome, c.reason) for c in commands if isinstance(c, Close)]


def test_a_frame_is_sent_joined_and_delivered() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    assert (send.id.frame, send.id.attempt, send.id.epoch, send.plan) == (0, 0, 1, A)
    [close] = answer(stream, send)
    assert isinstance(close, Close)
    assert close.outcome is Outcome.DELIVERED
    assert close.objects == [{**BOX[0][0], "age": {"value": 30}}]
    assert not stream.idle
    assert stream.published(0.2) == []
    assert stream.idle


def test_results_leave_in_frame_order() -> None:
    stream = core(lossless=True)
    [first], [second] = sends(submit(stream)), sends(submit(stream))
    assert answer(stream, second) == [Hold(1)]
    assert [frame for frame, _, _ in closes(answer(stream, first))] == [0, 1]


def test_single_images_do_not_wait_for_each_other() -> None:
    stream = StreamCore("cam", True, 2, deadline_s=1.0, ordered=False)
    stream.route(A, (), 0.0)
    [first], [second] = sends(submit(stream)), sends(submit(stream))
    assert closes(answer(stream, second)) == [(1, Outcome.DELIVERED, "")]
    stream.validate()
    assert stream.published(0.2) == []
    assert closes(answer(stream, first)) == [(0, Outcome.DELIVERED, "")]
    assert stream.published(0.2) == []
    assert stream.idle
    stream.validate()


def test_objects_that_cannot_be_joined_fail_their_frame_at_once() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    stream.output(output(send.id, "det", [[7]], [0]), 0.1)
    assert closes(stream.output(output(send.id, "age", [{"value": 30}], [0]), 0.1)) == [(0, Outcome.FAILED, "internal")]
    stream.validate()


def test_lossless_reads_no_further_than_its_window() -> None:
    stream = core(lossless=True, window=2)
    [first], _ = sends(submit(stream)), submit(stream)
    assert not stream.wants_frame
    answer(stream, first)
    assert not stream.wants_frame  # its result is not published yet
    assert stream.published(0.2) == []
    assert stream.wants_frame


def test_a_complete_frame_that_waits_for_an_older_one_leaves_the_window() -> None:
    """Else one slow frame keeps all devices waiting; so many are enough that memory is bounded."""
    stream = core(lossless=True, window=2)
    [first] = sends(submit(stream))
    taken = 1
    while stream.wants_frame:
        [send] = sends(submit(stream))
        assert answer(stream, send) == [Hold(send.id.frame)]
        taken += 1
        stream.validate()
    assert taken == HELD * stream.window
    assert [frame for frame, _, _ in closes(answer(stream, first))] == list(range(taken))
    assert not stream.held


def test_no_live_frame_is_sent_while_enough_wait_for_a_child() -> None:
    stream = core(lossless=False, window=9)
    stream.limits = {"det": 2, "age": 2}
    sent = []
    for _ in range(2):
        [send] = sends(submit(stream))
        sent.append(send)
    assert sends(submit(stream)) == []  # the root's device has two
    for send in sent:
        stream.output(output(send.id, "det", BOX, [0]), 0.1)
    assert sends(submit(stream)) == []  # its child's device has two
    assert [s.id.frame for s in sends(stream.output(output(sent[0].id, "age", [{"value": 30}], [0]), 0.2))] == [3]
    stream.validate()


def test_results_that_cannot_be_published_hold_the_window() -> None:
    """The broker is away, and devices of this host go on answering."""
    stream = core(lossless=True)
    taken = 0
    while stream.wants_frame:
        [send] = sends(submit(stream))
        answer(stream, send)
        taken += 1
        stream.validate()
    assert taken == stream.window
    assert not stream.idle
    for _ in range(taken):
        stream.published(0.2)
    assert stream.idle


def test_lossless_waits_for_a_route() -> None:
    stream = core(lossless=True)
    stream.route(None, (), 0.0)
    assert not stream.wants_frame
    assert submit(stream) == []
    assert [s.plan for s in sends(stream.route(B, (), 0.5))] == [B]


def test_live_keeps_only_the_newest_waiting_frame() -> None:
    stream = core(lossless=False, window=1)
    [send] = sends(submit(stream))
    assert submit(stream) == []
    assert closes(submit(stream)) == [(1, Outcome.DROPPED, "newer-frame")]
    commands = answer(stream, send)
    assert closes(commands) == [(0, Outcome.DELIVERED, "")]
    assert not sends(commands)
    assert [s.id.frame for s in sends(stream.published(0.2))] == [2]


def test_a_lost_device_resends_lossless_frames_under_the_new_plan() -> None:
    stream = core(lossless=True)
    [old] = sends(submit(stream))
    assert stream.route(None, {"h.b.two"}, 0.2) == []
    [new] = sends(stream.route(B, (), 0.4))
    assert (new.id.frame, new.id.attempt, new.id.epoch) == (0, 1, 2)
    assert answer(stream, old) == []  # the dead attempt's late outputs are not joined
    assert closes(answer(stream, new)) == [(0, Outcome.DELIVERED, "")]
    assert stream.ledger.delivered == 1


def test_a_lost_device_drops_live_frames() -> None:
    stream = core(lossless=False)
    submit(stream)
    assert closes(stream.route(None, {"h.b.one"}, 0.2)) == [(0, Outcome.DROPPED, "device-lost")]


def test_a_lost_device_of_another_plan_changes_nothing() -> None:
    stream = core(lossless=True)
    submit(stream)
    assert stream.route(A, {"h.b.nine"}, 0.2) == []


def test_frames_of_the_old_plan_end_under_it_when_its_devices_live() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    assert stream.route(B, (), 0.2) == []
    assert closes(answer(stream, send)) == [(0, Outcome.DELIVERED, "")]


def test_a_refusal_is_tried_again_after_a_pause() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    assert stream.output(output(send.id, "det", [], error="stale-epoch"), 0.1) == []
    assert stream.tick(0.1) == []
    [again] = sends(stream.tick(0.5))
    assert again.id.attempt == 1


def test_what_waits_to_be_tried_again_goes_at_once_under_a_new_plan() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    for now in (0.1, 0.4, 1.2):  # each pause is twice as long as the one before
        assert stream.output(output(send.id, "det", [], error="refused"), now) == []
        [send] = sends(stream.tick(now + 0.8))
    assert stream.output(output(send.id, "det", [], error="refused"), 2.0) == []
    assert stream.route(A, (), 2.1) == []
    [again] = sends(stream.route(B, (), 2.2))
    assert closes(answer(stream, again, 2.3)) == [(0, Outcome.DELIVERED, "")]


def test_an_attempt_that_several_nodes_refuse_has_failed_once() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    for _ in range(MAX_ATTEMPTS):
        for node in ("det", "age"):
            assert stream.output(output(send.id, node, [], error="stale-epoch"), 0.1) == []
    [again] = sends(stream.tick(0.5))
    assert closes(answer(stream, again)) == [(0, Outcome.DELIVERED, "")]


def test_what_a_lost_device_leaves_refused_is_no_failed_attempt() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    stream.output(output(send.id, "det", BOX, [0]), 0.1)
    assert stream.route(None, {"h.b.two"}, 0.2) == []
    for _ in range(MAX_ATTEMPTS):  # the device is back and has not loaded its network yet
        assert stream.output(output(send.id, "age", [], error="stale-epoch"), 0.3) == []
    [again] = sends(stream.route(A, (), 0.4))
    assert closes(answer(stream, again)) == [(0, Outcome.DELIVERED, "")]


def test_a_lossless_frame_is_given_up_after_enough_deadlines() -> None:
    stream = core(lossless=True)
    submit(stream)
    now, ended = 0.0, []
    while not ended:
        now += 0.5
        ended = closes(stream.tick(now))
        assert now < 1000
    assert ended == [(0, Outcome.FAILED, "deadline")]
    assert stream.resent == MAX_ATTEMPTS - 1


def test_an_error_of_the_network_fails_the_frame_at_once() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    failed = stream.output(output(send.id, "age", [], error="bad-model"), 0.1)
    assert closes(failed) == [(0, Outcome.FAILED, "bad-model")]


def test_contradicting_outputs_fail_the_frame() -> None:
    stream = core(lossless=True)
    [send] = sends(submit(stream))
    stream.output(output(send.id, "det", BOX, [0]), 0.1)
    failed = stream.output(output(send.id, "age", [{"value": 1}], [7]), 0.1)
    assert closes(failed) == [(0, Outcome.FAILED, "bad-message")]


def test_outputs_of_another_run_of_the_stream_are_ignored() -> None:
    import msgspec

    stream = core(lossless=True)
    [send] = sends(submit(stream))
    stranger = Send(msgspec.structs.replace(send.id, captured=99.0), send.plan, send.route, send.node)
    assert answer(stream, stranger) == []
    assert not stream.idle


def test_closing_drops_everything() -> None:
    stream = core(lossless=False, window=1)
    submit(stream)
    submit(stream)
    reasons = {(frame, reason) for frame, _, reason in closes(stream.close("undeployed"))}
    assert reasons == {(0, "undeployed"), (1, "undeployed")}
    stream.ledger.validate()
    assert not stream.ledger.open


def test_giving_up_one_frame_lets_later_ones_through() -> None:
    stream = core(lossless=True)
    submit(stream)
    [second] = sends(submit(stream))
    answer(stream, second)
    assert closes(stream.give_up(0, "deadline", 0.2)) == [(0, Outcome.DROPPED, "deadline"), (1, Outcome.DELIVERED, "")]


@pytest.mark.parametrize(
    ("code", "failed_attempts", "lossless", "pause"),
    [
        ("refused", 1, True, 0.1),
        ("deadline", 2, True, 0.2),
        ("stale-epoch", 7, True, 6.4),
        ("refused", 8, True, None),
        ("not-finite", 3, True, 0.4),
        ("not-finite", 4, True, None),
        ("bad-model", 1, True, None),
        ("refused", 1, False, None),
    ],
)
def test_when_a_failed_frame_is_sent_again(
    code: str, failed_attempts: int, lossless: bool, pause: float | None
) -> None:
    assert retry_pause(code, failed_attempts, lossless=lossless) == pause


TWICE = A.model_copy(update={"shares": {"det": {"h.b.one": 0.5, "h.b.two": 0.5}, "age": {"h.b.two": 1.0}}})


@pytest.mark.parametrize("code", ["inference-failed", "not-finite"])
def test_what_one_replica_fails_the_other_does_at_once(code: str) -> None:
    stream = core(lossless=True)
    stream.route(TWICE, (), 0.0)
    [send] = sends(submit(stream))
    [again] = sends(stream.output(output(send.id, "det", [], error=code), 0.1))
    assert (again.id.attempt, again.device != send.device) == (1, True)
    assert stream.replicas.failures == {("det", send.device): 1.0}
    assert closes(answer(stream, again)) == [(0, Outcome.DELIVERED, "")]
    stream.validate()


@pytest.mark.parametrize("code", ["inference-failed", "not-finite"])
def test_what_both_replicas_fail_is_the_frame_s_fault_in_the_end(code: str) -> None:
    stream = core(lossless=True)
    stream.route(TWICE, (), 0.0)
    [send] = sends(submit(stream))
    [again] = sends(stream.output(output(send.id, "det", [], error=code), 0.1))
    assert sends(stream.output(output(again.id, "det", [], error=code), 0.1)) == []
    [third] = sends(stream.tick(1.0))
    assert third.device == send.device
    failed = stream.output(output(third.id, "det", [], error="frame-fails"), 1.1)
    assert closes(failed) == [(0, Outcome.FAILED, "frame-fails")]
    stream.validate()


def test_a_live_frame_that_fails_is_dropped_and_lowers_the_share() -> None:
    stream = core(lossless=False)
    stream.route(TWICE, (), 0.0)
    [send] = sends(submit(stream))
    dropped = stream.output(output(send.id, "det", [], error="inference-failed"), 0.1)
    assert closes(dropped) == [(0, Outcome.DROPPED, "inference-failed")]
    assert stream.replicas.failures == {("det", send.device): 1.0}
