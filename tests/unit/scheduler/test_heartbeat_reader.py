"""Heartbeats read with the help of the one before are those that are decoded whole."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.heartbeat_reader import KNOWN_LIMIT, HeartbeatReader
from hams_shared.errors import MessageError
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import AssignmentState, Heartbeat, NodeLoad

counts = st.integers(0, 2)
beats = st.builds(
    Heartbeat,
    device=st.sampled_from(["a.b.c", "a.b.d"]),
    incarnation=st.sampled_from(["1", "2"]),
    sequence=counts,
    assignments=st.lists(
        st.builds(AssignmentState, group=st.just("g"), epoch=counts, state=st.just("ready")), max_size=2
    ).map(tuple),
    nodes=st.lists(st.builds(NodeLoad, group=st.just("g"), node=st.just("n"), frames=counts), max_size=2).map(tuple),
    uptime_s=st.sampled_from([0.5, 1.0]),
)


@given(st.lists(beats, max_size=8))
def test_all_heartbeats_are_read_as_they_are(sent: list[Heartbeat]) -> None:
    reader = HeartbeatReader()
    for beat in sent:
        assert reader.read(codec.encode(beat)) == beat


def test_what_has_not_changed_is_the_same_object() -> None:
    reader = HeartbeatReader()
    beat = Heartbeat(device="a.b.c", incarnation="1", sequence=1, nodes=(NodeLoad(group="g", node="n", frames=1),))
    first = reader.read(codec.encode(beat))
    again = reader.read(codec.encode(beat.model_copy(update={"sequence": 2})))
    assert again.sequence == 2
    assert again.nodes[0] is first.nodes[0]


GOOD = codec.encode(Heartbeat(device="a.b.c", incarnation="1", sequence=1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        GOOD[:-1],
        GOOD + b"\x00",
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"device": [], "nodes": [], "assignments": []}),
        codec.encode(Heartbeat(device="a.b.c", incarnation="1", sequence=1)).replace(b"sequence", b"sequenze"),
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_what_is_no_heartbeat_is_refused_as_ever(data: bytes) -> None:
    reader = HeartbeatReader()
    reader.read(GOOD)
    with pytest.raises(MessageError) as ours:
        reader.read(data)
    with pytest.raises(MessageError) as whole:
        codec.decode(Heartbeat, data)
    assert str(ours.value) == str(whole.value)


def test_json_is_read_too() -> None:
    text = b'{"device": "a.b.c", "incarnation": "1", "sequence": 7}'
    assert HeartbeatReader().read(text).sequence == 7


def test_it_keeps_a_limited_number_of_heartbeats() -> None:
    reader = HeartbeatReader()
    for number in range(KNOWN_LIMIT + 10):
        reader.read(codec.encode(Heartbeat(device=f"a.b.c{number}", incarnation="1", sequence=1)))
    assert len(reader._known) == KNOWN_LIMIT
