"""Where the pixels of frames under way lie."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hams_shared.wire.frame_pool import PREFIX, TRY_AGAIN, FramePool, FrameReader, FrameStore, memory_domain

needs_shm = pytest.mark.skipif(not memory_domain(), reason="this system has no /dev/shm")


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where pools lie in this test: in `FOLDER` are those of other tests that run meanwhile, too."""
    monkeypatch.setattr("hams_shared.wire.frame_pool.FramePool", partial(FramePool, folder=tmp_path))
    return tmp_path


def pools(folder: Path) -> set[Path]:
    return set(folder.glob(f"{PREFIX}*"))


def image(value: int, height: int = 4) -> np.ndarray:
    return np.full((height, 6, 3), value, np.uint8)


def filled(store: FrameStore) -> np.ndarray:
    """Read frame 1, all of value 2, into blank memory of the store."""
    [blank] = store.blanks(1)
    assert blank is not None
    blank[:] = 2
    store.put(1, blank)
    return blank


@needs_shm
def test_a_frame_read_into_blank_memory_is_not_copied() -> None:
    store = FrameStore(2)
    assert store.blanks(1) == [None]  # the size is not known yet
    store.put(0, image(1))
    blank = filled(store)
    found = store.get(1)
    assert found is not None
    pixels, pointer = found
    assert pixels is blank
    assert pointer is not None
    assert (FrameReader().view(pointer, (4, 6, 3)).pixels == 2).all()
    store.close()


@needs_shm
def test_frames_read_together_keep_their_own_memory_whichever_were_read_into_it() -> None:
    store = FrameStore(5)
    store.put(0, image(9))
    blanks = store.blanks(4)
    read = [blanks[0], image(1), blanks[2]]  # one was read elsewhere, and the source ended
    for value, pixels in ((0, read[0]), (2, read[2])):
        assert pixels is not None
        pixels[:] = value
    store.taken([pixels for pixels in read if pixels is not None])
    for number, pixels in enumerate(read):
        assert pixels is not None
        store.put(number + 1, pixels)
    for number in range(3):
        found = store.get(number + 1)
        assert found is not None
        assert found[1] is not None
        assert (found[0] == number).all()
    store.drop(0)
    assert sum(blank is not None for blank in store.blanks(4)) == 2  # of five slots three are held
    store.close()


@needs_shm
def test_memory_that_a_read_left_behind_still_has_is_not_used_until_it_is_given_back() -> None:
    store = FrameStore(3)
    store.put(0, image(0))
    [left] = store.blanks(1)
    assert left is not None
    give_back = store.abandon()
    store.taken(())
    filled(store)
    found = store.get(1)
    assert found is not None
    assert found[1] is not None
    view = FrameReader().view(found[1], (4, 6, 3))
    left[:] = 9  # the read returns at last
    view.check()
    assert (view.pixels == 2).all()
    assert store.blanks(1) == [None]  # of three slots two are held, and one is left behind
    give_back()
    assert store.blanks(1)[0] is not None
    store.close()


@needs_shm
def test_memory_given_back_late_lets_its_old_pool_go(own_folder: Path) -> None:
    store = FrameStore(1)
    store.put(0, image(1))
    store.drop(0)
    store.blanks(1)
    give_back = store.abandon()
    store.put(1, image(2, height=5000))
    assert len(pools(own_folder)) == 2
    give_back()
    assert len(pools(own_folder)) == 1
    store.close()
    give_back()
    assert pools(own_folder) == set()


@needs_shm
def test_frames_beyond_the_pool_are_kept_and_go_inline() -> None:
    store = FrameStore(1)
    store.put(0, image(1))
    store.put(1, image(2))
    first, second = store.get(0), store.get(1)
    assert first is not None
    assert second is not None
    assert first[1] is not None
    assert second[1] is None
    assert (second[0] == 2).all()
    store.drop(0)
    store.drop(0)  # it is not held
    store.put(2, image(3))
    third = store.get(2)
    assert third is not None
    assert third[1] is not None
    assert store.get(0) is None
    store.close()


@needs_shm
def test_more_slots_can_be_had_later() -> None:
    store = FrameStore(1)
    store.put(0, image(1))
    store.slots = 2
    for frame in (1, 2, 3):
        store.put(frame, image(frame))
    pointers = [found[1] is not None for frame in range(4) if (found := store.get(frame))]
    assert pointers == [True, True, True, False]  # the old pool goes when its frame does
    store.close()


@needs_shm
def test_a_pool_with_more_slots_takes_large_frames_as_well(own_folder: Path) -> None:
    store = FrameStore(1)
    store.put(0, image(1, height=5000))
    store.drop(0)
    store.slots = 2
    for frame, height in enumerate((4, 5000, 4, 5000), start=1):
        store.put(frame, image(frame, height=height))
        found = store.get(frame)
        assert found is not None
        assert found[1] is not None
        store.drop(frame)
        if frame == 1:
            made = pools(own_folder)
            assert made
    assert pools(own_folder) == made
    store.close()


@needs_shm
def test_a_larger_frame_gets_a_larger_pool_and_the_old_one_goes_when_empty(own_folder: Path) -> None:
    store = FrameStore(2)
    store.put(0, image(1))
    store.put(1, image(2, height=5000))
    assert len(pools(own_folder)) == 2
    found = store.get(1)
    assert found is not None
    assert found[1] is not None
    store.drop(0)
    assert len(pools(own_folder)) == 1
    store.close()
    assert pools(own_folder) == set()


@needs_shm
def test_memory_that_was_full_is_tried_again_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, own_folder: Path
) -> None:
    full, tried = True, 0

    def pool(slots: int, size: int) -> FramePool:
        nonlocal tried
        tried += 1
        if full:
            raise OSError(28, "No space left on device")
        return FramePool(slots, size, own_folder)

    def put(frame: int, height: int = 4) -> bool:
        """Whether the frame is in shared memory."""
        store.put(frame, image(1, height))
        found = store.get(frame)
        store.drop(frame)
        assert found is not None
        return found[1] is not None

    monkeypatch.setattr("hams_shared.wire.frame_pool.FramePool", pool)
    store = FrameStore(2)
    assert not any(put(frame) for frame in range(3 * TRY_AGAIN))
    assert tried == 3
    assert caplog.text.count("frames travel inline") == 1
    full = False
    assert any(put(frame) for frame in range(TRY_AGAIN))
    assert all(put(frame) for frame in range(10))
    assert tried == 4
    full = True  # of larger frames the first says so, and again only smaller ones than those
    assert not any(put(frame, height) for height in (9000, 8000, 9000) for frame in range(10))
    assert tried == 6
    assert caplog.text.count("frames travel inline") == 3
    store.close()


def test_without_shared_memory_all_goes_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hams_shared.wire.frame_pool.FramePool", full)
    store = FrameStore(2)
    store.put(0, image(1))
    found = store.get(0)
    assert found is not None
    assert found[1] is None
    assert store.blanks(2) == [None, None]
