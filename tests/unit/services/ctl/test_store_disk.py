"""The broker's disk is full: decisions and reports."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hams_services.ctl.store_disk import (
    AGAIN_S,
    LONGEST_S,
    SETTLED_S,
    Complaints,
    DiskWatch,
    explained,
    is_full,
    naming_full_disk,
)
from hams_shared.errors import BrokerError, NotFoundError
from hams_shared.runtime.runfile import announced
from support.small_disk import small_disk

URL = "nats://127.0.0.1:9"
NOBODY = "no scheduler is running"


def test_a_full_disk_is_reported_once_and_the_broker_restarted_when_there_is_room() -> None:
    watch = DiskWatch()
    looks = [True, False, False, False, True, True, False, True]
    actions = [watch.decide(100.0 * n, room=room, complained=False) for n, room in enumerate(looks)]
    assert actions == ["", "full", "", "", "restart", "", "full", "restart"]


def test_a_disk_that_was_full_between_two_looks_is_known_by_the_brokers_log() -> None:
    watch = DiskWatch()
    assert watch.decide(0, room=True, complained=True) == "restart"
    assert watch.decide(2, room=True, complained=False) == ""


def test_a_broker_that_keeps_complaining_is_restarted_ever_less_often() -> None:
    watch = DiskWatch()
    restarts = [t for t in range(4000) if watch.decide(t, room=True, complained=True) == "restart"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(restarts)]
    assert pauses == [min(LONGEST_S, AGAIN_S * 2**n) for n in range(len(pauses))]
    assert len(pauses) > 7
    assert watch.decide(9000, room=True, complained=False) == "restart"  # the complaint came while it waited
    assert watch.decide(9000 + SETTLED_S, room=True, complained=False) == ""
    assert watch.decide(20000, room=True, complained=True) == "restart"
    assert watch.decide(20000 + AGAIN_S, room=True, complained=True) == "restart"  # all was well in between


def test_a_disk_that_is_full_again_and_again_is_overcome_each_time_at_once() -> None:
    watch = DiskWatch()
    for at in range(0, 600, 20):
        assert watch.decide(at, room=False, complained=True) in ("full", "")
        assert watch.decide(at + 2, room=True, complained=True) == "restart"
        for quiet in range(at + 4, at + 20, 2):
            assert watch.decide(quiet, room=True, complained=False) == ""


def test_full_disks_in_quick_succession_do_not_wait_long() -> None:
    watch = DiskWatch()
    for at in (0, 7, 14):
        watch.decide(at, room=False, complained=True)
        assert watch.decide(at + 2, room=True, complained=False) == "restart"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("JetStream failed to store a msg on stream '$G > KV_x': write /x/1.blk: no space left on device", True),
        ("write /x/1.blk: disk quota exceeded", True),
        ("JetStream out of space, will be DISABLED", True),
        ("Server is ready", False),
    ],
)
def test_complaints_are_found_once_in_what_is_new(tmp_path: Path, line: str, found: bool) -> None:
    path = tmp_path / "nats-server.log"
    path.write_text("[ERR] no space left on device\n")  # from an earlier life
    complaints = Complaints(path)
    assert not complaints.new()
    with path.open("a") as file:
        file.write(f"[1] 2026/11/28 [ERR] {line}\n")
    assert complaints.new() == found
    assert not complaints.new()
    path.write_text(f"{line}\n")  # rotated: smaller than it was
    assert complaints.new() == found


def test_a_missing_log_holds_no_complaint(tmp_path: Path) -> None:
    assert not Complaints(tmp_path / "none").new()


def test_a_folder_with_room_is_not_full_and_nothing_stays_in_it(tmp_path: Path) -> None:
    assert not is_full(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not is_full(tmp_path / "none")


def test_on_a_full_disk_errors_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path / "home"))
    with small_disk(tmp_path / "store", "300k") as store, announced(URL, store=store):
        with pytest.raises(NotFoundError, match=NOBODY), explained(URL):
            raise NotFoundError(NOBODY)
        (store / "ballast").write_bytes(bytes(200 * 1024))
        assert is_full(store)
        assert [path.name for path in store.iterdir()] == ["ballast"]
        with pytest.raises(BrokerError, match=f"disk of the broker's store is full: {store}"), explained(URL):
            raise NotFoundError(NOBODY)
        with pytest.raises(NotFoundError, match=NOBODY), explained("nats://elsewhere:4222"):
            raise NotFoundError(NOBODY)
        with pytest.raises(BrokerError, match="disk of the broker's store is full"), naming_full_disk(store):
            (store / "more").write_bytes(bytes(400 * 1024))


def test_a_command_that_works_on_a_full_disk_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path / "home"))
    with small_disk(tmp_path / "store", "128k") as store, announced(URL, store=store):
        with explained(URL):
            pass
        assert "disk of the broker's store is full" in caplog.text
