"""Labels given as texts: scores by the published formulas, files of vectors, the way of a group file to an agent."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hams_agents.backends.base import ModelFile
from hams_agents.backends.onnxruntime import OnnxRuntimeBackend
from hams_agents.devices import parse
from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.registry import build_task, describe
from hams_agents.tasks.zero_shot import ZeroShot
from hams_shared.errors import BadInputError, GroupSpecError, TaskError
from hams_shared.group import label_vectors
from hams_shared.group.node_spec import InputSpec, TaskSpec
from hams_shared.group.spec import GroupSpec, load_group
from support import dense

RNG = np.random.default_rng(7)
TEXTS = {label: RNG.normal(size=128) for label in ("a photo of a cat", "a dog", "京 \"bus\"", "d")}  # fmt: skip
IMAGES = RNG.normal(size=(3, 128)).astype(np.float32) + np.stack([*TEXTS.values()][:3]).astype(np.float32)


def answers(values: np.ndarray = IMAGES, **params: Any) -> list[dict[str, Any]]:
    task = {"type": "zero_shot", "texts": label_vectors.pack(TEXTS), **params}
    built: Any = build_task(TaskSpec.model_validate(task), InputSpec(size=(8, 8)))
    return describe(built, {"image_embeds": values}, [np.eye(2, 3)] * len(values), [(8, 8)] * len(values))


def cosine(a: Any, b: Any) -> float:
    """One number at a time."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def test_softmax_as_of_clip() -> None:
    for image, item in zip(IMAGES, answers(logit_scale=20, top_k=4), strict=True):
        powers = {label: math.exp(20 * cosine(image, text)) for label, text in TEXTS.items()}
        expected = {label: power / sum(powers.values()) for label, power in powers.items()}
        assert item["scores"] == pytest.approx(expected, abs=0.003)  # vectors travel as half floats
        best = max(expected, key=lambda label: expected[label])
        assert (item["label"], item["score"]) == (best, item["scores"][best])
        assert list(item["scores"].values()) == sorted(item["scores"].values(), reverse=True)


def test_sigmoid_as_of_siglip_and_its_threshold() -> None:
    found = answers(activation="sigmoid", logit_scale=30, logit_bias=-20, top_k=2, threshold=0.5, unknown="nothing")
    for image, item in zip(IMAGES, found, strict=True):
        expected = sorted((1 / (1 + math.exp(20 - 30 * cosine(image, text))) for text in TEXTS.values()), reverse=True)
        assert list(item["scores"].values()) == pytest.approx(expected[:2], abs=0.003)
        assert (item["label"] == "nothing") == (item["score"] < 0.5)
    assert any(item["label"] == "nothing" for item in found)


def test_the_vector_is_there_on_request_and_for_a_gallery() -> None:
    assert "embedding" not in answers()[0]
    for params in ({"embedding": True}, {"gallery": {"threshold": 0.7}}):
        vector = answers(**params)[0]["embedding"]
        assert cosine(vector, IMAGES[0]) == pytest.approx(1)
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("form", ["json", "npz", "labels.npz"])
def test_from_a_file_beside_the_group_to_the_agent(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"texts.{form}"
    if form == "json":
        file.write_text(json.dumps({label: vector.tolist() for label, vector in TEXTS.items()}))
    elif form == "npz":
        np.savez(file, **TEXTS)
    else:
        np.savez(file, labels=np.array(list(TEXTS)), vectors=np.stack([*TEXTS.values()]))
    weights = RNG.normal(size=(3, 128)).astype(np.float32)
    path = dense.encoder(tmp_path, weights)
    (tmp_path / "g.yaml").write_text(
        "name: g\nnodes:\n  what:\n    model: encoder.onnx\n    input: {size: [8, 8], scale: [255]}\n"
        f"    task: {{type: zero_shot, texts: !embeddings {file.name}, top_k: 4}}\n"
    )
    sent = load_group(tmp_path / "g.yaml").model_dump(mode="json")
    node = GroupSpec.model_validate(sent).nodes["what"]
    network = OnnxRuntimeBackend(parse("onnxruntime:CPU")).load(ModelFile("m", "", path, node.input.shape()))
    image = np.full((1, 3, 8, 8), 0.5, np.float32)
    built: Any = build_task(node.task, node.input)
    [item] = describe(built, network.infer(image), [np.eye(2, 3)], [(8, 8)])
    nearest = max(TEXTS, key=lambda label: cosine(0.5 * weights.sum(axis=0), TEXTS[label]))
    assert item["label"] == nearest
    assert item["scores"].keys() == TEXTS.keys()


def test_several_prompts_of_a_label_are_averaged() -> None:
    packed = label_vectors.pack({"cat": [[2, 0], [0, 5]], "dog": [1, -1]})
    vectors = label_vectors.unpack(2, 2, packed["f16"])
    assert vectors == pytest.approx(np.array([[1, 1], [1, -1]]) / math.sqrt(2), abs=1e-3)


def bomb() -> bytes:
    """Arrays that state 128 TiB."""
    made, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (1 << 45,)})
    with zipfile.ZipFile(made, "w") as archive:
        for label in ("a.npy", "b.npy"):
            archive.writestr(label, array.getvalue())
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t.txt", b"", "neither .npz nor .json"),
        ("t.json", None, "cannot read"),
        ("t.json", b"[1]", "not a map"),
        ("t.json", b"{", "holds no vectors"),
        ("t.json", b'{"a": [1, 2]}', "two are needed"),
        ("t.json", b'{"a": [1, 2], "b": [1]}', "same size"),
        ("t.json", b'{"a": [1, 2], "b": "x"}', "label 'b'"),
        ("t.json", b'{"a": [1, 2], "b": [0, 0]}', "its vector is 0"),
        ("t.json", b'{"a": [1, 2], "b": [NaN, 0]}', "finite"),
        ("t.npz", b"PK", "holds no vectors"),
        ("t.npz", bomb(), "holds no vectors"),
    ],
)
def test_files_that_are_none_name_the_line(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    group = (
        "name: g\nnodes:\n  n: {model: m.onnx, input: {size: [8, 8]}, task: {type: zero_shot, texts: !embeddings %s}}\n"
    )
    (tmp_path / "g.yaml").write_text(group % name)
    with pytest.raises(GroupSpecError, match=f"line 3: !embeddings {name}: .*{text}"):
        load_group(tmp_path / "g.yaml")


def test_objects_and_too_many_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([{}]), b=np.array([1.0]))
    with pytest.raises(BadInputError, match="holds no vectors"):
        label_vectors.read(tmp_path / "o.npz")
    with pytest.raises(BadInputError, match="384 vectors of this size"):
        label_vectors.pack({str(index): np.ones(1024) for index in range(385)})


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"texts": "labels.npz"}, "write texts: !embeddings labels.npz"),
        ({"texts": {"labels": ["a", "b"], "size": 2, "f16": "AAAA"}}, "f16 has 3 bytes"),
        ({"texts": {"labels": ["a", "b"], "size": 2, "f16": "AAAAAAAAAAA="}}, "a vector is 0"),
        (
            {"texts": label_vectors.pack({"a": [1, 2], "b": [2, 1]})},
            "vectors of 128 numbers, those of the texts have 2",
        ),
    ],
)
def test_errors(params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        answers(**params)


def test_what_fits() -> None:
    image = TensorInfo("pixel_values", (1, 3, 224, 224), "float32")
    assert ZeroShot.fits([TensorInfo("image_embeds", (None, 512), "float32")], image, {}) == {}
    several = [TensorInfo("last_hidden_state", (1, 50, 768), "float32"), TensorInfo("pooler", (1, 768), "float32")]
    assert ZeroShot.fits(several, image, {}) == {"output": "pooler"}
    assert ZeroShot.fits([TensorInfo("y", (1, 10), "float32")], image, {}) is None
