"""Frames in shared memory: bounded, never half-written or reused under a reader, cleaned up after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hams_shared import locks
from hams_shared.errors import FrameGoneError, FrameUnreachableError, MessageError
from hams_shared.wire import frame_pool
from hams_shared.wire.frame_pool import FramePointer, FramePool, FrameReader, memory_domain, remove_abandoned

SHAPE = (4, 5, 3)


def filled(pool: FramePool, value: int) -> tuple[object, FramePointer]:
    slot = pool.take(SHAPE)
    assert slot is not None
    slot.pixels[:] = value
    return slot, slot.publish()


def test_a_reader_sees_what_the_owner_wrote(tmp_path: Path) -> None:
    pool, reader = FramePool(2, 60, tmp_path), FrameReader(tmp_path)
    _, pointer = filled(pool, 7)
    view = reader.view(pointer, SHAPE)
    assert (view.pixels == 7).all()
    assert not view.pixels.flags.writeable
    view.check()


def test_a_reused_slot_is_noticed_before_and_after(tmp_path: Path) -> None:
    pool, reader = FramePool(1, 60, tmp_path), FrameReader(tmp_path)
    slot, pointer = filled(pool, 1)
    view = reader.view(pointer, SHAPE)
    slot.free()  # type: ignore[attr-defined]
    with pytest.raises(FrameGoneError):
        view.check()
    _, newer = filled(pool, 2)
    with pytest.raises(FrameGoneError):
        view.check()
    with pytest.raises(FrameGoneError):
        reader.view(pointer, SHAPE)
    assert (reader.view(newer, SHAPE).pixels == 2).all()


def test_a_slot_being_written_is_gone_for_readers(tmp_path: Path) -> None:
    pool, reader = FramePool(1, 60, tmp_path), FrameReader(tmp_path)
    slot, pointer = filled(pool, 1)
    slot.free()  # type: ignore[attr-defined]
    assert pool.take(SHAPE) is not None  # and not published
    with pytest.raises(FrameGoneError):
        reader.view(pointer, SHAPE)


def test_the_pool_is_bounded(tmp_path: Path) -> None:
    pool = FramePool(2, 60, tmp_path)
    slots = [pool.take(SHAPE) for _ in range(3)]
    assert slots[2] is None
    assert slots[0] is not None
    slots[0].free()
    slots[0].free()
    assert pool.take(SHAPE) is not None
    assert pool.take(SHAPE) is None
    assert FramePool(1, 60, tmp_path).take((1000, 1000, 3)) is None


def test_a_closed_pool_is_gone_from_disk_and_for_readers(tmp_path: Path) -> None:
    pool, reader = FramePool(2, 60, tmp_path), FrameReader(tmp_path)
    _, pointer = filled(pool, 3)
    view = reader.view(pointer, SHAPE)
    pool.close()
    pool.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FrameGoneError):
        view.check()
    with pytest.raises(FrameUnreachableError):
        FrameReader(tmp_path).view(pointer, SHAPE)


def test_a_pointer_out_of_its_segment_is_refused(tmp_path: Path) -> None:
    pool, reader = FramePool(1, 60, tmp_path), FrameReader(tmp_path)
    _, pointer = filled(pool, 3)
    with pytest.raises(MessageError, match="outside"):
        reader.view(pointer, (5000, 5000, 3))


@pytest.mark.parametrize(
    "wire",
    [
        None,
        ["hams-frames-ab", 0, 2],
        ["hams-frames-../x", 0, 2, 4096],
        ["other", 0, 2, 4096],
        ["hams-frames-ab", 0, 3, 4096],
        ["hams-frames-ab", -1, 2, 4096],
        ["hams-frames-ab", 0, 2, 0],
    ],
)
def test_malformed_pointers_are_refused(wire: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire, FramePointer)


def test_a_full_memory_file_system_is_an_error_not_a_signal(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        FramePool(500, 1 << 50, tmp_path)
    assert list(tmp_path.iterdir()) == []


OWNER = """
import sys
from pathlib import Path
from hams_shared.wire.frame_pool import FramePool
pool = FramePool(2, 100, Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_segments_of_a_killed_owner_are_removed_and_others_are_not(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    assert owner.stdout.readline() == "ready\n"
    mine = FramePool(1, 60, tmp_path)
    assert remove_abandoned(tmp_path) == 0
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait(10)
    owner.stdin.close()
    owner.stdout.close()
    assert remove_abandoned(tmp_path) == 1
    assert len(list(tmp_path.iterdir())) == 1
    mine.close()


def test_the_domain_tells_file_systems_apart(tmp_path: Path) -> None:
    assert memory_domain() == memory_domain()
    assert memory_domain(tmp_path / "absent") == ""
    if memory_domain():
        assert memory_domain() != memory_domain(Path("/proc"))


def test_work_by_pointer_is_small_and_comes_back_whole() -> None:
    from hams_shared.wire.frames import FrameId, Work, pack_works, unpack_works

    if not memory_domain():
        pytest.skip("this system has no /dev/shm")
    pool = FramePool(1, 480 * 640 * 3)
    try:
        slot = pool.take((480, 640, 3))
        assert slot is not None
        slot.pixels[:] = np.arange(3, dtype=np.uint8)
        pointer = slot.publish()
        identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
        frame_id = FrameId("g", "s", 0, 0, 1, 0.0)
        work = Work(frame_id, "det", slot.pixels[None], identity, [0], (640, 480), {"det": "h.b.u"}, pointer)
        data = pack_works([work])
        assert len(data) < 500
        [back] = unpack_works(data, FrameReader())
        assert back.images.shape == (1, 480, 640, 3)
        assert (back.images == work.images).all()
        assert back.route == {"det": "h.b.u"}
        [unread] = unpack_works(data)
        assert isinstance(unread.unreadable, FrameUnreachableError)
        slot.free()
        assert back.view is not None
        with pytest.raises(FrameGoneError):
            back.view.check()
        [gone] = unpack_works(data, FrameReader())
        assert isinstance(gone.unreadable, FrameGoneError)
    finally:
        pool.close()


@pytest.mark.skipif(not memory_domain(), reason="no shared memory file system here")
def test_the_memory_of_a_closed_pool_is_free_though_it_is_mapped() -> None:
    size = 1 << 22
    pool, reader = FramePool(2, size), FrameReader()
    slot = pool.take((1, size, 1))
    assert slot is not None
    view = reader.view(slot.publish(), (1, size, 1))
    with open(f"/proc/self/fd/{pool._fd}", "rb") as file:
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2 * size
        pool.close()
        assert os.fstat(file.fileno()).st_blocks * 512 < size
    with pytest.raises(FrameGoneError):
        view.check()


@pytest.mark.parametrize("finished", [True, False])
def test_a_segment_that_is_taken_for_abandoned_while_it_is_made_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    others: list[int] = []

    def late(file: int) -> bool:
        """Another process comes between the creation of the file and its lock."""
        if not others:
            path = next(tmp_path.iterdir())
            others.append(os.open(path, os.O_RDWR))
            assert locks.lock(others[0])
            path.unlink()
            if finished:
                os.close(others[0])
        return locks.lock(file)

    monkeypatch.setattr(frame_pool, "lock", late)
    pool = FramePool(1, 60, tmp_path)
    _, pointer = filled(pool, 7)
    assert (FrameReader(tmp_path).view(pointer, SHAPE).pixels == 7).all()
    assert remove_abandoned(tmp_path) == 0
    pool.close()
    if not finished:
        os.close(others[0])
