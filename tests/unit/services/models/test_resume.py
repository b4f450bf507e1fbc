"""Downloads that are interrupted and go on, from a real server on the loopback, onto real disks."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hams_services.models import download as module
from hams_services.models.download import download
from hams_services.models.files import copy, no_progress
from hams_services.models.sources import fetch
from hams_shared.errors import DigestError, ModelFetchError, NoSpaceError
from hams_shared.runtime.backoff import Backoff
from support.file_server import Answer, Files, serving
from support.small_disk import small_disk

NET = bytes(range(256)) * 4000
SHA = hashlib.sha256(NET).hexdigest()
SHA384 = hashlib.sha384(NET).hexdigest()
OLD = NET[::-1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setattr(module, "RETRY", Backoff(0.01, 0.01))
    monkeypatch.setattr(module, "SILENCE_S", 60.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving({"/net": NET}) as files:
        yield files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cut_connection_goes_on_where_it_was(server: Files, tmp_path: Path) -> None:
    server.answers = [Answer(cut=300_000), Answer(cut=200_000), Answer(cut=200_000), Answer(cut=1), Answer(cut=0)]
    reports: list[int] = []
    download(f"{server.url}/net", SHA, tmp_path / "net", lambda done, total: reports.append(done))
    assert (tmp_path / "net").read_bytes() == NET
    assert names(tmp_path) == ["net", "net.sha256"]
    assert server.ranges == [None, *(f"bytes={n}-" for n in (300_000, 500_000, 700_000, 700_001, 700_001))]
    assert {each[2] for each in server.asked[1:]} == {'"v1"'}
    assert reports == sorted(reports)
    assert reports[-1] == len(NET)


def test_the_next_call_goes_on_too(server: Files, tmp_path: Path) -> None:
    """What three tries did not finish, another process may."""
    server.answers = [Answer(cut=400_000), Answer(cut=0), Answer(cut=0)]
    with pytest.raises(ModelFetchError, match="ended after 400000 of 1024000 bytes") as error:
        download(f"{server.url}/net", SHA384, tmp_path / "net", no_progress)
    assert "continues there" in error.value.hint
    assert (tmp_path / "net.part").read_bytes() == NET[:400_000]
    download(f"{server.url}/net", SHA384, tmp_path / "net", no_progress)
    assert names(tmp_path) == ["net", "net.sha384"]
    assert server.asked[-1] == ("/net", "bytes=400000-", '"v1"')


def test_another_server_goes_on_with_it(server: Files, tmp_path: Path) -> None:
    """Its ETag means nothing there."""
    server.answers = [Answer(cut=400_000), Answer(status=404)]
    with pytest.raises(ModelFetchError, match="404"):
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    with serving({"/elsewhere/net": NET}) as other:
        download(f"{other.url}/elsewhere/net", SHA, tmp_path / "net", no_progress)
        assert other.asked == [("/elsewhere/net", "bytes=400000-", None)]
    assert (tmp_path / "net").read_bytes() == NET


@pytest.mark.parametrize(
    "answer",
    [Answer(ranges=False), Answer(ranges=False, length=False), Answer(etag='"v2"'), Answer(shift=-5), Answer(shift=5)],
    ids=["Range ignored", "and no length", "changed meanwhile", "an earlier part", "a later part"],
)
def test_a_server_that_starts_over_is_believed(server: Files, tmp_path: Path, answer: Answer) -> None:
    server.answers = [Answer(cut=400_000), answer]
    download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    assert (tmp_path / "net").read_bytes() == NET
    assert names(tmp_path) == ["net", "net.sha256"]


@pytest.mark.parametrize("answer", [Answer(if_range=False, etag='"v2"'), Answer(etag="")])
def test_a_part_of_another_version_is_found_out_at_the_end(server: Files, tmp_path: Path, answer: Answer) -> None:
    server.content["/net"] = OLD
    server.answers = [Answer(cut=400_000, etag=answer.etag and '"v1"'), Answer(status=400)]
    with pytest.raises(ModelFetchError, match="400"):
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    server.content["/net"] = NET
    server.answers = [answer]
    download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    assert server.ranges == [None, "bytes=400000-", "bytes=400000-", None]
    assert (tmp_path / "net").read_bytes() == NET


@pytest.mark.parametrize("have", [NET, OLD, NET + b"more", OLD + b"more"], ids=["whole", "wrong", "long", "both"])
def test_a_part_that_reaches_the_end(server: Files, tmp_path: Path, have: bytes) -> None:
    """A process ended between the last byte and the digest; or another one wrote nonsense."""
    (tmp_path / "net.part").write_bytes(have)
    download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    assert (tmp_path / "net").read_bytes() == NET
    assert names(tmp_path) == ["net", "net.sha256"]
    assert len(server.asked) == (1 if have == NET else 2)


@pytest.mark.parametrize("promised", ["0" * 64, "0" * 96])
@pytest.mark.parametrize("answers", [[], [Answer(cut=1000)]], ids=["at once", "resumed"])
def test_a_wrong_digest(server: Files, tmp_path: Path, promised: str, answers: list[Answer]) -> None:
    server.answers = list(answers)
    kind, found = ("SHA-256", SHA) if len(promised) == 64 else ("SHA-384", SHA384)
    with pytest.raises(DigestError, match=f"/net has {kind} {found}, not {promised}") as error:
        download(f"{server.url}/net", promised, tmp_path / "net", no_progress)
    assert "it was deleted" in error.value.hint
    assert names(tmp_path) == []
    assert server.ranges[-1] is None, "a last try with all of it, from one hand"


def test_a_digest_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelFetchError, match="is not a digest"):
        fetch("https://127.0.0.1:9/net.onnx", "abc", tmp_path)


@pytest.mark.parametrize("size", [len(NET) - 1, len(NET) + 1])
def test_a_length_that_differs(server: Files, tmp_path: Path, size: int) -> None:
    with pytest.raises(ModelFetchError, match=f"/net has 1024000 bytes, not {size}") as error:
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress, size)
    assert "another file now" in error.value.hint
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_page_in_its_place_does_not_cost_the_part(server: Files, tmp_path: Path) -> None:
    """A proxy that asks for a name answers with a page of its own, with status 200."""
    server.answers = [Answer(cut=400_000), Answer(cut=0), Answer(cut=0)]
    with pytest.raises(ModelFetchError, match="ended after"):
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress, len(NET))
    server.content["/net"], server.answers = b"<html>who are you?</html>", [Answer(ranges=False)]
    with pytest.raises(ModelFetchError, match=f"/net has 25 bytes, not {len(NET)}"):
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress, len(NET))
    server.content["/net"] = NET
    download(f"{server.url}/net", SHA, tmp_path / "net", no_progress, len(NET))
    assert server.ranges[-1] == "bytes=400000-"
    assert (tmp_path / "net").read_bytes() == NET


def test_a_file_that_is_not_there(server: Files, tmp_path: Path) -> None:
    with pytest.raises(ModelFetchError, match="/other: the server answers 404") as error:
        download(f"{server.url}/other", SHA, tmp_path / "net", no_progress)
    assert module.absent(error.value)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_silence_in_the_middle(server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 3.0)
    server.answers = [Answer(cut=400_000, silent=30)]
    download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    assert server.ranges == [None, "bytes=400000-"]
    assert (tmp_path / "net").read_bytes() == NET


def test_silence_for_good(server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    server.answers = [Answer(cut=0, silent=30) for _ in range(3)]
    with pytest.raises(ModelFetchError, match=r"in 3 attempts: the server sent nothing for 0\.2 s"):
        download(f"{server.url}/net", SHA, tmp_path / "net", no_progress)
    assert names(tmp_path) == []


def test_one_downloads_and_the_others_wait(server: Files, tmp_path: Path) -> None:
    server.answers = [Answer(pause=0.05)]
    threads = [
        threading.Thread(target=download, args=(f"{server.url}/net", SHA, tmp_path / "net", no_progress))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert (tmp_path / "net").read_bytes() == NET
    assert names(tmp_path) == ["net", "net.sha256"]


# Room on the disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB."""
    with small_disk(tmp_path / "small", "512k") as folder:
        yield folder


def test_a_disk_that_is_too_small_is_reported_before_the_download(server: Files, small: Path) -> None:
    with pytest.raises(NoSpaceError, match=r"/net needs 1\.0 MB more, and .*small has 0\.5 MB left") as error:
        download(f"{server.url}/net", SHA, small / "net", no_progress)
    assert "HAMS_CACHE" in error.value.hint
    assert names(small) == []
    assert len(server.asked) == 1


def test_a_disk_that_fills_up_on_the_way(server: Files, small: Path) -> None:
    """An unknown length cannot be judged before. What has arrived is of use once there is room."""
    server.answers = [Answer(length=False)]
    with pytest.raises(NoSpaceError, match=r"the disk of .*small is full"):
        download(f"{server.url}/net", SHA, small / "net", no_progress)
    assert len(server.asked) == 1
    part = (small / "net.part").read_bytes()
    assert NET.startswith(part)
    assert len(part) > 200_000
    subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
    download(f"{server.url}/net", SHA, small / "net", no_progress)
    assert server.ranges == [None, f"bytes={len(part)}-"]
    assert names(small) == ["net", "net.sha256"]


@pytest.mark.parametrize("total", [len(NET), 0])
def test_a_copy_onto_a_disk_that_is_too_small(small: Path, tmp_path: Path, total: int) -> None:
    (tmp_path / "net").write_bytes(NET)
    with (tmp_path / "net").open("rb") as source, pytest.raises(NoSpaceError):
        copy(source, small / "net", SHA, no_progress, total, "net")
    assert names(small) == []
