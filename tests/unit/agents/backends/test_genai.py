"""Vision language models by OpenVINO GenAI, on a random tiny one; without ``hams[genai]`` only what needs none."""

from __future__ import annotations

import hashlib
import io
import itertools
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hams_agents import devices
from hams_agents.backends.base import Backend, Generating, ModelFile
from hams_agents.backends.genai import GenAiNetwork
from hams_agents.backends.registry import open_backend
from hams_agents.profiling.measurement import profile
from hams_agents.profiling.profiler import FEW
from hams_agents.question import Question
from hams_services.models.vlm import REQUIRED, packed
from hams_shared.errors import ModelError, UnsupportedModelError
from support import tiny_vlm

SIZE = (48, 64)
random = np.random.default_rng(0)
PICTURES = random.integers(0, 256, (2, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino_genai", reason="needs hams[genai]")
    return tiny_vlm.write(tmp_path_factory.mktemp("vlm") / "tiny")


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend(devices.parse("openvino:CPU@0"))


def stored(data: bytes, folder: Path, **more: object) -> ModelFile:
    """A model as agents have it in their cache."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.zip").write_bytes(data)
    return ModelFile("tiny", hashlib.sha256(data).hexdigest(), folder / "model.zip", (1, *SIZE, 3), "u8", **more)  # type: ignore[arg-type]


def zipped(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


@pytest.fixture(scope="module")
def network(folder: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> GenAiNetwork:
    loaded = backend.load(stored(packed(folder), tmp_path_factory.mktemp("cache")))
    assert isinstance(loaded, GenAiNetwork)
    return loaded


def texts(network: object, pictures: np.ndarray = PICTURES, **question: object) -> list[str]:
    assert isinstance(network, Generating)
    found = network.asked(Question(**{"max_tokens": 24, **question})).infer(pictures)  # type: ignore[arg-type]
    assert found["text"].dtype == np.uint8
    assert len(found["text"]) == len(found["whole"]) == len(pictures)
    return [row.tobytes().rstrip(b"\0").decode() for row in found["text"]]


def test_texts_follow_from_picture_and_prompt(network: GenAiNetwork) -> None:
    first = texts(network)
    assert texts(network) == first  # nothing is left over from one question to the next
    assert first[0] != first[1]
    assert texts(network, prompt="Who is it?")[0] != first[0]
    assert [len(text) for text in first] == [24, 24]
    assert len(texts(network, max_tokens=3)[0]) == 3
    assert texts(network, PICTURES[:0]) == []


def test_colours_arrive_as_red_green_blue(network: GenAiNetwork) -> None:
    assert texts(network, PICTURES[:1])[0] != texts(network, PICTURES[:1, :, :, ::-1])[0]


def test_an_answer_that_takes_too_long_is_cut_off(network: GenAiNetwork) -> None:
    found = network.asked(Question(max_tokens=1000, max_s=0.05)).infer(PICTURES[:1])
    assert 0 < np.count_nonzero(found["text"]) < 1000
    assert found["whole"].tolist() == [0]


def test_memory_and_time_are_measured(network: GenAiNetwork) -> None:
    assert network.memory_mib > 0
    assert network.load_ms > 0
    assert not network.dynamic_batch


def test_few_runs_measure_it(network: GenAiNetwork, tmp_path: Path) -> None:
    model = ModelFile("tiny", "0" * 64, tmp_path, (1, *SIZE, 3), "u8")
    seconds = itertools.count()
    measured = profile(network, model, lambda: float(next(seconds)), FEW)  # each run takes a second
    assert (measured.fps, measured.lanes, measured.runs) == (1.0, 1, 3)
    assert next(seconds) < 30


def test_one_that_says_nothing_is_whole(backend: Backend, folder: Path, tmp_path: Path) -> None:
    silent = backend.load(stored(packed(tiny_vlm.write(tmp_path / "silent", ends=True)), tmp_path / "cache"))
    found = silent.infer(PICTURES[:1])
    assert found["text"].tolist() == [[0]]
    assert found["whole"].tolist() == [1]


def test_it_ends_soon_when_told_to_and_python_runs_meanwhile(backend: Backend, folder: Path, tmp_path: Path) -> None:
    network = backend.load(stored(packed(folder), tmp_path))
    assert isinstance(network, GenAiNetwork)
    lengths: list[int] = []
    asked = network.asked(Question(max_tokens=1_000_000, max_s=60))
    thread = threading.Thread(target=lambda: lengths.append(int(asked.infer(PICTURES[:1])["text"].shape[1])))
    thread.start()
    while thread.is_alive() and not asked._pipeline._lock.locked():
        time.sleep(0.001)
    network.end()
    thread.join(30)
    assert not thread.is_alive()
    assert lengths[0] < 1_000_000
    network.close()
    with pytest.raises(ModelError, match="is closed"):
        network.infer(PICTURES[:1])


def test_agents_of_one_host_share_the_unpacked_files(backend: Backend, folder: Path, tmp_path: Path) -> None:
    model = stored(packed(folder), tmp_path)
    first = texts(backend.load(model))
    before = (tmp_path / "files" / REQUIRED[0]).stat().st_mtime_ns
    assert texts(backend.load(model)) == first
    assert (tmp_path / "files" / REQUIRED[0]).stat().st_mtime_ns == before


def test_other_pictures_are_refused(network: GenAiNetwork) -> None:
    with pytest.raises(ModelError, match="was given 1×64×48×3 of uint8, not pictures of 1×48×64×3"):
        network.infer(PICTURES[:1].transpose(0, 2, 1, 3))


@pytest.mark.parametrize("broken", ["openvino_language_model.xml", "config.json", "openvino_tokenizer.bin"])
def test_a_damaged_model_has_an_error_of_its_own(broken: str, backend: Backend, folder: Path, tmp_path: Path) -> None:
    files = {one.name: one.read_bytes() for one in folder.iterdir()}
    damaged = zipped(**{**files, broken: files[broken][: len(files[broken]) // 2]})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="model tiny cannot be loaded on CPU: "):
        backend.load(stored(damaged, tmp_path))


# ── without the extra ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_the_extra_it_is_a_cell_with_a_reason(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    with pytest.raises(UnsupportedModelError, match="cannot be imported") as raised:
        backend.load(stored(zipped(a="b"), tmp_path))
    assert raised.value.hint == "install hams[genai]"


def test_other_inputs_are_refused(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(zipped(a="b"))
    with pytest.raises(UnsupportedModelError, match="takes pictures of R, G, B bytes"):
        backend.load(ModelFile("tiny", "0" * 64, tmp_path / "model.zip", (1, 3, *SIZE), "f32"))


def test_other_runtimes_do_not_read_it(tmp_path: Path) -> None:
    other = open_backend(devices.parse("onnxruntime:CPU@0"))
    with pytest.raises(UnsupportedModelError, match=r"ONNX Runtime does not read \.zip"):
        other.load(stored(zipped(a="b"), tmp_path))


def test_a_hostile_zip_file_leaves_nothing_behind(folder: Path, backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model tiny: model.zip has an entry outside of its folder"):
        backend.load(stored(zipped(**{"../out.xml": "x"}), tmp_path / "cache"))
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["model.zip"]
    assert not (tmp_path / "out.xml").exists()
