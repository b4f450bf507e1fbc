from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml

from hams_agents.backends import replay
from hams_agents.backends.base import Counting, ModelFile, counts, generates
from hams_agents.backends.emulated import EmulatedBackend, EmulatedNetwork
from hams_agents.backends.registry import open_backend
from hams_agents.backends.replay import (
    MOST_TOTAL_BYTES,
    WINDOW,
    Digest,
    Replays,
    Store,
    pack,
    prune,
    replays_of,
    store_path,
    unpack,
)
from hams_agents.devices import parse
from hams_shared.errors import ModelError
from support.networks import images, means, model_file, positives, scaled

PROFILE: dict[str, object] = {"name": "stick", "kind": "vpu", "memory_mib": 512, "fps": {"*": 1e4}}


DIGEST = "000080ccf4f8d02d0000bcedf79f1efb0000384200003c42"
"""Of 0, 1 … 47 as f32; another one makes all records useless."""


def backend(folder: Path, **changes: object) -> EmulatedBackend:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, "run": "onnxruntime", **changes}))
    opened = open_backend(parse(f"emulated:{path}"), folder)
    assert isinstance(opened, EmulatedBackend)
    return opened


def loaded(folder: Path, model: ModelFile, **changes: object) -> tuple[EmulatedNetwork, Replays]:
    opened = backend(folder, **changes)
    return opened.load(model), opened.replays


def gone(model: ModelFile) -> ModelFile:
    """The file is deleted, so that nothing can be computed with it any more."""
    model.path.unlink()
    return model


# ── devices that replay ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("run", ["openvino", "onnxruntime"])
def test_a_second_pass_computes_nothing(tmp_path: Path, run: str) -> None:
    model, seen = model_file(means(tmp_path)), images(5)
    network, counts = loaded(tmp_path, model, run=run)
    first = [network.infer(seen[i : i + 1])["y"] for i in range(5)]
    assert (counts.replayed, counts.misses) == (0, 5)
    again = [network.infer(seen[i : i + 1])["y"] for i in range(5)]
    assert (counts.replayed, counts.misses) == (5, 5)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(first))
    np.testing.assert_allclose(np.concatenate(first)[:, :, 0, 0], seen.mean((2, 3)), rtol=1e-5)


def test_other_agents_and_later_runs_share_the_records_and_load_no_network(tmp_path: Path) -> None:
    model, seen = model_file(means(tmp_path)), images(4)
    first, counts = loaded(tmp_path, model)
    wanted = first.infer(seen)["y"]
    other, others = loaded(tmp_path, gone(model))
    np.testing.assert_array_equal(other.infer(seen)["y"], wanted)
    assert (counts.misses, others.replayed, others.misses) == (4, 4, 0)
    assert (other.memory_mib, other.metadata) == (first.memory_mib, first.metadata)
    with pytest.raises(ModelError):
        other.infer(images(1, seed=9))  # not recorded, and its network is gone


def test_batches_are_recorded_image_by_image(tmp_path: Path) -> None:
    model, seen = model_file(means(tmp_path)), images(6)
    network, counts = loaded(tmp_path, model)
    network.infer(seen[:4])
    outputs = network.infer(seen[[5, 3, 0, 1]])
    assert (counts.replayed, counts.misses) == (3, 5)
    np.testing.assert_allclose(outputs["y"][:, :, 0, 0], seen[[5, 3, 0, 1]].mean((2, 3)), rtol=1e-5)
    assert network.infer(seen[:0])["y"].shape == (0, 3, 1, 1)


def test_outputs_of_unlike_lengths_are_those_of_the_real_network(tmp_path: Path) -> None:
    model, seen = model_file(positives(tmp_path)), images(3)
    real = open_backend(parse("onnxruntime:CPU")).load(model)
    network, _ = loaded(tmp_path, model)
    for _ in range(2):
        for name, value in network.infer(seen).items():
            np.testing.assert_array_equal(value, real.infer(seen)[name])


def test_what_measuring_takes_is_not_counted(tmp_path: Path) -> None:
    model = model_file(means(tmp_path))
    network, counts = loaded(tmp_path, model)
    assert isinstance(network, Counting)
    network.leave_out()
    network.infer(images(5))
    assert (counts.replayed, counts.misses) == (0, 0)
    other = open_backend(parse("onnxruntime:CPU")).load(model)  # of a device that replays nothing
    assert not isinstance(other, Counting)


def test_outputs_may_be_written_to_without_harm(tmp_path: Path) -> None:
    network, _ = loaded(tmp_path, model_file(means(tmp_path)))
    network.infer(images(1))
    wanted = network.infer(images(1))["y"].copy()
    network.infer(images(1))["y"][:] = 7
    np.testing.assert_array_equal(network.infer(images(1))["y"], wanted)


@pytest.mark.parametrize("changes", [{"replay": False}, {"run": "none"}])
def test_a_profile_may_replay_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    network, counts = loaded(tmp_path, model_file(means(tmp_path)), **changes)
    network.infer(images(2))
    assert not (tmp_path / "outputs").exists()
    assert (counts.replayed, counts.remarks()) == (0, ())


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    network, _ = loaded(tmp_path, model_file(means(tmp_path)))
    with pytest.raises(ModelError, match="was given 1×3×4×4"):
        network.infer(np.zeros((1, 3, 4, 4), np.float32))


def test_a_backend_that_never_replays_has_counts_that_stay_0() -> None:
    counts = replays_of(open_backend(parse("onnxruntime:CPU")))
    assert (counts.replayed, counts.misses, counts.remarks()) == (0, 0, ())


def test_lanes_replay_at_the_same_time(tmp_path: Path) -> None:
    model, seen = model_file(means(tmp_path)), images(40)
    network, counts = loaded(tmp_path, model, lanes=4)
    with ThreadPoolExecutor(4) as lanes:
        for _ in range(2):
            outputs = list(lanes.map(lambda i: network.infer(seen[i : i + 1])["y"], range(40)))
    np.testing.assert_allclose(np.concatenate(outputs)[:, :, 0, 0], seen.mean((2, 3)), rtol=1e-5)
    assert (counts.replayed, counts.misses) == (40, 40)


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────────


def test_remarks_are_about_the_newest_heartbeats() -> None:
    counts = Replays(on=True)
    counts.add(0, 50)
    (told,) = counts.remarks()
    assert "50 of the last 50 images were computed" in told
    assert "more than 1% are void" in told
    for _ in range(WINDOW):
        counts.add(10, 0)
        (told,) = counts.remarks()
    assert f"0 of the last {10 * WINDOW} images" in told
    assert "void" not in told


def test_one_miss_in_a_hundred_is_allowed() -> None:
    counts = Replays(on=True)
    counts.add(198, 2)
    assert "void" not in counts.remarks()[0]
    counts.add(0, 1)
    assert "void" in counts.remarks()[0]


def test_a_full_file_is_told_and_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_BYTES", 1 << 19)
    model, seen = model_file(scaled(tmp_path, listed=False)), images(1000)  # of outputs of 768 bytes
    network, counts = loaded(tmp_path, model)
    for _ in range(2):
        network.infer(seen)
    assert 1000 < counts.misses < 2000  # the first ones are replayed, the last ones are computed each time
    assert counts.remarks()[-1].endswith("is full: delete it to record other images")
    assert next((tmp_path / "outputs").glob("*.sqlite")).stat().st_size <= 1 << 19


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"no database, " * 1000)
    store = Store(path)
    store.put(b"key", b"value")
    assert Store(path).get(b"key") == b"value"


def test_without_a_folder_records_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "a.sqlite")
    store.put(b"key", b"value")
    assert (store.get(b"key"), store.get(b"other")) == (b"value", None)


def test_an_error_of_the_file_is_a_miss(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite")
    with sqlite3.connect(tmp_path / "a.sqlite") as other:
        other.execute("DROP TABLE outputs")
    store.put(b"key", b"value")
    assert store.get(b"key") is None


def test_many_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_WAIT_S", 60.0)  # SQLite lets those that wait in by no order
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait(60)
        store = Store(tmp_path / "a.sqlite")  # all create it at once
        for i in range(50):
            store.put(f"{number} {i}".encode(), bytes([number]) * 5000)
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    store = Store(tmp_path / "a.sqlite")
    assert all(store.get(f"{n} {i}".encode()) == bytes([n]) * 5000 for n in range(8) for i in range(50))


def test_files_that_were_used_last_are_kept(tmp_path: Path) -> None:
    for age in range(4):
        path = tmp_path / f"{age}.sqlite"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.sqlite", "1.sqlite"]
    prune(tmp_path / "none", 250)


def test_each_load_makes_room_for_its_records(tmp_path: Path) -> None:
    """An agent may run for months, and load one network after another."""
    opened = backend(tmp_path)
    old = tmp_path / "outputs" / "old.sqlite"
    old.parent.mkdir(exist_ok=True)
    with old.open("wb") as file:
        file.truncate(MOST_TOTAL_BYTES)  # sparse: it takes no room
    os.utime(old, (1e9, 1e9))
    network = opened.load(model_file(means(tmp_path)))
    assert not old.exists()
    assert len(list(old.parent.glob("*.sqlite"))) == 1
    network.close()


def test_a_file_is_for_one_network_shape_and_runtime(tmp_path: Path) -> None:
    model = model_file(means(tmp_path))
    paths = {
        store_path(tmp_path, model, "openvino 1"),
        store_path(tmp_path, model, "openvino 2"),
        store_path(tmp_path, model_file(model.path, (1, 3, 9, 8)), "openvino 1"),
        store_path(tmp_path, model_file(model.path, dtype="u8"), "openvino 1"),
        store_path(tmp_path, model_file(means(tmp_path, "1", "other")), "openvino 1"),
    }
    assert len(paths) == 5


def test_outputs_as_bytes_and_back() -> None:
    outputs = {
        "boxes": np.arange(14, dtype=np.float32).reshape(1, 2, 7),
        "none": np.empty((1, 0, 4), np.float32),
        "kind ä": np.array([3], np.int64),
        "half": np.ones((1, 3), np.float16),
        "flags": np.array([[True, False]]),
    }
    back = unpack(pack(outputs))
    assert list(back) == list(outputs)
    for name, value in outputs.items():
        np.testing.assert_array_equal(back[name], value)
        assert (back[name].dtype, back[name].flags.writeable) == (value.dtype, True)


# ── digests ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 3, 4, 7, 8, 9, 12, 16, 75, 1024])
def test_each_byte_counts(size: int) -> None:
    digest = Digest(size)
    image = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    seen = {digest(image)}
    for index in range(size):
        for bit in range(8):
            other = image.copy()
            other[index] ^= 1 << bit
            seen.add(digest(other))
    assert len(seen) == 8 * size + 1
    assert digest(image) in seen


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_place_counts(dtype: type) -> None:
    """One bright square at each place, and two of them at each pair of places of a coarse grid."""
    digest, seen, pictures = Digest(32 * 32 * 4), set(), 0
    squares = [np.zeros((32, 32), dtype) for _ in range(64)]
    for index, square in enumerate(squares):
        y, x = divmod(index, 8)
        square[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 100
    for first in range(64):
        for second in range(first + 1):
            seen.add(digest(np.maximum(squares[first], squares[second])))
            pictures += 1
    assert len(seen) == pictures


def test_a_digest_is_the_same_in_every_process() -> None:
    image = np.arange(48, dtype=np.float32)
    assert Digest(192)(image).hex() == Digest(4096)(image).hex() == DIGEST


class Wrapper:
    """Passes on all that it is asked for, as `ApartBackend` and `GuardedNetwork` do."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, key: str) -> object:
        return getattr(self.inner, key)


def test_what_a_wrapper_passes_on_is_seen_by_every_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 3.12 on `isinstance` with a protocol looks at the class alone."""
    device = backend(tmp_path)
    assert replays_of(cast(Any, Wrapper(device))) is device.replays
    network = Wrapper(device.load(model_file(means(tmp_path))))
    assert counts(cast(Any, network))
    assert not generates(cast(Any, network))
    assert generates(cast(Any, Wrapper(SimpleNamespace(asked=lambda question: None))))
