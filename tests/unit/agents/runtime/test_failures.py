"""When failures are put to the test, and whose fault they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_agents.runtime.failures import LIMIT, RETEST_S, Failures, Fault, Verdict, device_lost, names_device

NODE, OTHER = ("g", "n", 1), ("g", "m", 1)
ERROR, LOST = "primitive failed", "CUDA error: an illegal memory access was encountered"


def verdicts(outcomes: str, text: str = ERROR) -> list[Verdict]:
    """By failure (``x``) among successes (``.``), each of another frame: what follows."""
    failures = Failures()
    found = []
    for frame, outcome in enumerate(outcomes):
        if outcome == "x":
            found.append(failures.failed(NODE, frame, text, 0.0))
        else:
            failures.succeeded(NODE)
    return found


@pytest.mark.parametrize(
    ("outcomes", "text", "tested_at"),
    [
        ("xxxxx", ERROR, 5),
        ("xx.xx.xx", ERROR, 6),
        ("xxx", LOST, 3),
        ("x.x.x.x.x.x.x", ERROR, 7),  # every second
        ("x....x....x....x....x....x", ERROR, None),  # every fifth
        ("xxxx", ERROR, None),
        ("x" * 4 + "." * 16 + "x" * 4, ERROR, None),
    ],
)
def test_errors_in_a_row_and_an_error_rate_lead_to_a_test(outcomes: str, text: str, tested_at: int | None) -> None:
    found = verdicts(outcomes, text)
    assert next((n for n, verdict in enumerate(found, 1) if verdict is Verdict.TEST), None) == tested_at


def test_the_same_frame_again_is_tested_at_once_and_at_fault_if_the_test_passes() -> None:
    failures = Failures()
    assert failures.failed(NODE, "frame", ERROR, 0.0) is Verdict.COUNTED
    assert failures.failed(NODE, "frame", ERROR, 0.1) is Verdict.TEST
    failures.passed(NODE, 0.1)
    assert failures.failed(NODE, "frame", ERROR, 0.2) is Verdict.FRAME
    assert failures.failed(NODE, "another", ERROR, 0.3) is Verdict.COUNTED
    assert failures.failed(NODE, "another", ERROR, 0.1 + RETEST_S) is Verdict.TEST


def test_a_network_fails_alone_a_device_fails_by_name_or_with_several() -> None:
    failures = Failures()
    failures.failed(NODE, 1, ERROR, 0.0)
    assert failures.proven(NODE, "a", 0.0) is Fault.NETWORK
    failures.failed(OTHER, 1, ERROR, 1.0)
    assert failures.proven(OTHER, "a", 1.0) is Fault.NETWORK  # the same network
    assert failures.proven(OTHER, "b", 2.0) is Fault.DEVICE
    named = Failures()
    named.failed(NODE, 1, LOST, 0.0)
    assert named.proven(NODE, "a", 0.0) is Fault.DEVICE


@pytest.mark.parametrize(
    ("text", "named", "lost"),
    [
        ("[GPU] clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES", True, False),
        ("CUDA error: an illegal memory access was encountered", True, True),
        ("CUDNN_STATUS_EXECUTION_FAILED", True, True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True, False),
        ("ZE_RESULT_ERROR_DEVICE_LOST, code 0x70000001", True, True),
        ("ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", True, False),
        ("model x: the device is gone", True, True),
        ("HAILO_STREAM_ABORT(63)", True, True),
        ("input image has another shape than the network's", False, False),
        ("model light failed: the stub was told to", False, False),
        ("8 of 8 numbers of output y are not finite (NaN) on box.cuda0", False, False),
    ],
)
def test_errors_that_name_the_device(text: str, named: bool, lost: bool) -> None:
    assert (names_device(text), device_lost(text)) == (named, lost)


@given(st.lists(st.sampled_from("x...."), max_size=300), st.integers(0, 4))
def test_a_node_that_rarely_fails_is_never_tested(outcomes: list[str], start: int) -> None:
    """At most every fifth: in each run of five outcomes one failure."""
    spread = "".join("x...."[(n + start) % 5] if one == "x" else "." for n, one in enumerate(outcomes))
    assert Verdict.TEST not in verdicts(spread)


@given(st.lists(st.booleans(), max_size=100), st.integers(1, 3))
def test_whatever_was_before_failures_in_a_row_are_tested(before: list[bool], extra: int) -> None:
    outcomes = "".join("x" if one else "." for one in before)
    assert Verdict.TEST in verdicts(outcomes + "x" * (int(LIMIT) - 1 + extra))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_frames_that_fail_while_the_network_passes_take_nothing_out(events: list[tuple[int, bool]]) -> None:
    failures, now = Failures(), 0.0
    for frame, fails in events:
        now += 0.1
        if not fails:
            failures.succeeded(NODE)
        elif failures.failed(NODE, frame, LOST, now) is Verdict.TEST:
            failures.passed(NODE, now)
    assert failures.errors(NODE) <= len(events)
    assert failures._networks == {}


def test_an_undeployed_group_is_forgotten() -> None:
    failures = Failures()
    failures.failed(NODE, 1, ERROR, 0.0)
    failures.forget("g")
    assert failures.errors(NODE) == 0
