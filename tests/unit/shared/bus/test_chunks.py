"""Messages above the broker's limit: any bytes, any limit, come out as they went in, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_shared.bus import chunks
from hams_shared.bus.chunks import Assembler, split
from hams_shared.errors import MessageError


@given(st.binary(max_size=500), st.integers(40, 600))
def test_parts_make_the_whole(data: bytes, limit: int) -> None:
    data = b"\x80" + data
    parts = split(data, limit)
    assert all(len(part) <= limit for part in parts)
    assembler = Assembler()
    assert [assembler.take(part, 0.0) for part in parts] == [None] * (len(parts) - 1) + [data]


@given(st.integers(0, 9))
def test_a_lost_part_loses_the_message_and_nothing_else(missing: int) -> None:
    first, second = (split(bytes([0x80 + n]) * 300, 59) for n in (0, 1))
    assert len(first) == 10
    assembler = Assembler()
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        whole = assembler.take(a, 0.0) if index != missing else None
        assert whole is None
        whole = assembler.take(b, 0.0)
    assert whole == b"\x81" * 300


def test_old_and_crowded_messages_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_UNDER_WAY", 2)
    assembler = Assembler()
    messages = [split(bytes([0x80 + n]) * 100, 90) for n in range(3)]
    for parts in messages:
        assembler.take(parts[0], 0.0)
    assert assembler.lost == 1
    assert assembler.take(messages[0][1], 0.0) is None
    assert assembler.take(messages[2][1], 0.0) == b"\x82" * 100
    late = split(b"\x80" * 100, 90)
    assembler.take(late[0], chunks.MAX_AGE_S + 1)
    assert assembler.take(messages[1][1], chunks.MAX_AGE_S + 1) is None


@pytest.mark.parametrize("bad", [chunks.MAGIC, chunks.MAGIC + b"\0" * 30, chunks.MAGIC + b"\xff" * 40])
def test_malformed_parts_are_refused(bad: bytes) -> None:
    with pytest.raises(MessageError, match="part"):
        Assembler().take(bad, 0.0)


def test_a_whole_message_passes() -> None:
    assert split(b"\x80abc", 100) == [b"\x80abc"]
    assert Assembler().take(b"\x80abc", 0.0) == b"\x80abc"
