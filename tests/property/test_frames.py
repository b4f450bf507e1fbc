"""Data-plane messages survive the wire, and nothing else gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hams_shared.errors import HamsError, MessageError
from hams_shared.wire import codec
from hams_shared.wire.frames import (
    FrameId,
    Output,
    Reduced,
    Work,
    pack_outputs,
    pack_works,
    unpack_outputs,
    unpack_works,
)
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.plan import Plan, PlanRecord

names = st.text("abcdefgh-_", min_size=1, max_size=12)
numbers = st.integers(0, 2**53)
ids = st.builds(FrameId, names, names, numbers, numbers, numbers, st.floats(0, 4e9))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(ids, names, st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_work_round_trip(frame_id: FrameId, node: str, count: int, height: int, width: int, random: object) -> None:
    rng = np.random.default_rng(count * 100 + height)
    work = Work(
        frame_id,
        node,
        rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8),
        rng.normal(size=(count, 2, 3)),
        list(range(count)),
        (width, height),
    )
    if count == 1:
        work = replace(work, reduced=Reduced(work.images[0, :1]))
    back, again = unpack_works(pack_works([work, work]))
    assert again.id == back.id
    assert (back.reduced is None) == (work.reduced is None)
    if back.reduced is not None and work.reduced is not None:
        np.testing.assert_array_equal(back.reduced.pixels, work.reduced.pixels)
    assert (back.id, back.node, back.sources, back.frame_size) == (frame_id, node, work.sources, (width, height))
    np.testing.assert_array_equal(back.images, work.images)
    np.testing.assert_array_equal(back.to_frame, work.to_frame)


@given(ids, names, names, st.lists(plain, max_size=3), st.dictionaries(names, st.floats(0, 1e6), max_size=3))
def test_output_round_trip(
    frame_id: FrameId, node: str, device: str, items: list[object], timing: dict[str, float]
) -> None:
    output = Output(frame_id, node, device, items, list(range(len(items))), timing)
    assert Output.unpack(output.pack()) == output
    assert unpack_outputs(pack_outputs([output, output])) == [output, output]


@given(st.binary(max_size=200))
def test_garbage_is_a_message_error(data: bytes) -> None:
    for unpack in (unpack_works, unpack_outputs, Output.unpack):
        with pytest.raises(MessageError):
            unpack(data)
    for kind in (Heartbeat, Plan):
        with pytest.raises(MessageError):
            codec.decode(kind, data)


@given(plain)
def test_any_msgpack_that_is_not_ours_is_a_message_error(value: object) -> None:
    data = codec.pack([value])
    for unpack in (unpack_works, unpack_outputs, Output.unpack):
        with pytest.raises(MessageError):
            unpack(data)


@given(st.data())
def test_a_damaged_message_never_raises_anything_else(data: st.DataObject) -> None:
    work = Work(
        FrameId("g", "s", 1, 0, 1, 0.0),
        "n",
        np.zeros((1, 2, 2, 3), np.uint8),
        np.zeros((1, 2, 3)),
        [0],
        (2, 2),
        reduced=Reduced(np.zeros((1, 1, 3), np.uint8)),
    )
    raw = bytearray(pack_works([work]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack_works(bytes(raw))
    except HamsError as error:
        assert error.code == "bad-message"


def test_a_huge_declared_array_is_refused_without_allocating() -> None:
    for unpack in (codec.unpack, unpack_works, unpack_outputs):
        with pytest.raises(MessageError):
            unpack(b"\xdd\xff\xff\xff\xff")


def test_unknown_fields_are_ignored_and_missing_ones_named() -> None:
    assert codec.decode(PlanRecord, codec.pack({"group": "g", "news": 1})) == PlanRecord(group="g")
    with pytest.raises(MessageError, match="group"):
        codec.decode(PlanRecord, codec.pack({}))
