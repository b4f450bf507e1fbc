from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_shared.bus.protocol import Entry
from hams_shared.bus.watch import WatchState


def started(*entries: Entry) -> WatchState:
    state = WatchState()
    state.begin()
    for entry in entries:
        state.add(entry)
    state.end()
    return state


A1, A2, B1 = Entry("a", b"1", 1), Entry("a", b"2", 5), Entry("b", b"1", 2)


def test_nothing_before_the_snapshot_is_whole() -> None:
    state = WatchState()
    state.begin()
    state.add(A1)
    assert state.take() == []
    assert not state.complete
    state.end()
    assert state.take() == [A1, None]
    assert state.take() == []


def test_changes_are_told_once_and_in_order() -> None:
    state = started(A1, B1)
    assert state.take() == [A1, B1, None]
    state.add(A2)
    state.add(Entry("b", None, 6))
    state.add(Entry("b", None, 7))
    assert state.take() == [A2, Entry("b", None, 6)]


def test_unread_changes_are_conflated() -> None:
    state = started(A1, B1)
    state.take()
    state.add(Entry("a", b"x", 3))
    state.add(Entry("b", b"y", 4))
    state.add(A2)
    assert state.take() == [Entry("b", b"y", 4), A2]


def test_deletions_before_the_first_reading_are_not_told() -> None:
    state = started(A1, Entry("c", None, 3))
    state.add(Entry("a", None, 4))
    assert state.take() == [None]


def test_a_second_snapshot_tells_only_the_difference() -> None:
    state = started(A1, B1)
    state.take()
    state.begin()
    state.add(A1)
    state.add(Entry("c", b"3", 3))
    state.end()
    assert state.take() == [Entry("c", b"3", 3), Entry("b", None, 2, lost=True)]


def test_the_same_revision_of_another_bucket_is_a_change() -> None:
    state = started(A1)
    state.take()
    state.begin()
    state.add(Entry("a", b"other", 1))
    state.end()
    assert state.take() == [Entry("a", b"other", 1)]


def test_a_broken_off_first_snapshot_starts_over() -> None:
    state = WatchState()
    state.begin()
    state.add(A1)
    state.begin()
    state.add(B1)
    state.end()
    assert state.take() == [B1, None]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=1))),
            st.sampled_from(["restart", "take"]),
        )
    )
)
def test_a_reader_ends_up_with_what_the_bucket_holds(steps: list[tuple[str, bytes | None] | str]) -> None:
    bucket: dict[str, Entry] = {}
    reader: dict[str, Entry] = {}
    markers = 0

    def read(state: WatchState) -> None:
        nonlocal markers
        for news in state.take():
            if news is None:
                markers += 1
            elif news.value is None:
                assert reader.pop(news.key, None) or markers
            else:
                reader[news.key] = news

    state = started()
    for revision, step in enumerate(steps):
        if step == "take":
            read(state)
        elif step == "restart":
            state.begin()
            for entry in bucket.values():
                state.add(entry)
            state.end()
        else:
            key, value = step
            entry = Entry(key, value, revision)
            bucket.pop(key, None)
            if value is not None:
                bucket[key] = entry
            state.add(entry)
    read(state)
    assert reader == bucket
    assert markers == 1
