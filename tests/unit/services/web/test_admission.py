"""Which files and sources group files of the page may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hams_services.models.group_text import group_text
from hams_services.web.admission import known_refs, read
from hams_services.web.files import Files
from hams_shared.errors import GroupSpecError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef

DIGEST = "a" * 64
GROUP = """\
name: g
nodes:
  n: {model: %s, input: {size: [8, 8]}, task: {type: raw}%s}
streams:
  s: {source: "%s"}
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Folders of the page beside a file that it must not read."""
    for name in ("models", "media/photos", "media/linked", "hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("models/a.onnx", "media/v.mp4", "media/photos/1.png", "hidden/secret.txt", "secret.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "media/link.mp4").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "media/folder").symlink_to(tmp_path / "hidden")
    (tmp_path / "media/linked/1.png").symlink_to(tmp_path / "secret.txt")
    return Files.of([tmp_path / "models", tmp_path / "media"])


def text(model: str = "zoo:centerface", source: str = "push", more: str = "") -> str:
    return GROUP % (model, more, source)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("models/a.onnx", "models/a.onnx"),
        ("a.onnx", "models/a.onnx"),
        ("media/v.mp4", "media/v.mp4"),
        ("../models/a.onnx", "models/a.onnx"),
        ("media/photos/*.png", "media/photos/*.png"),
        ("media/../models/a.onnx", "models/a.onnx"),
    ],
)
def test_files_below_the_folders_are_found(files: Files, tmp_path: Path, name: str, found: str) -> None:
    assert files.find(name) == tmp_path / found
    assert files.find(str(tmp_path / found)) == tmp_path / found


OUTSIDE = [
    "../secret.txt", "media/../../secret.txt", "media/link.mp4", "media/folder/secret.txt", "/etc/passwd", "~/.ssh/id",
    "~root", "media/folder/*.txt", "media/linked/*.png", "media/*.mp4", "none.mp4", "..", "media/\0",
    "hidden/secret.txt", f"media/{'n' * 300}",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_outside_and_what_does_not_exist_get_the_same_answer(files: Files, name: str) -> None:
    with pytest.raises(GroupSpecError, match="is no file that this page may use"):
        files.find(name)


def test_without_folders_no_file_is_found() -> None:
    with pytest.raises(GroupSpecError, match="--files"):
        Files().find("/etc/passwd")


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("zoo:centerface", "rtsp://user:pass@camera/main"),
        ("pypi:a==1.0/b.onnx", "http://10.0.0.7/video"),
        (f"https://models.example/a.onnx, sha256: {DIGEST}", "camera:0"),
        ("uploaded:mine", "camera:/dev/video2"),
        ("models/a.onnx", "media/photos"),
        ("zoo:centerface", "pypi:a==1.0/v.mp4"),
        ("zoo:centerface", "camera:usb-Logitech"),
    ],
)
def test_what_the_page_takes(files: Files, model: str, source: str) -> None:
    assert read(text(model, source), files).name == "g"


@pytest.mark.parametrize(
    ("model", "source", "said"),
    [
        ("file:///etc/passwd", "push", "file: sources are not taken"),
        ("ftp://x/y.onnx", "push", "ftp: sources"),
        ("/etc/passwd", "push", "may use"),
        ("https://127.0.0.1/a.onnx, sha256: " + DIGEST, "push", "refused"),
        ("https://localhost:9/a.onnx, sha256: " + DIGEST, "push", "refused"),
        ("'https://[::1]/a.onnx', sha256: " + DIGEST, "push", "refused"),
        ("'https://[::ffff:127.0.0.1]/a.onnx', sha256: " + DIGEST, "push", "refused"),
        ("https://169.254.169.254/a.onnx, sha256: " + DIGEST, "push", "refused"),
        ("https://0.0.0.0/a.onnx, sha256: " + DIGEST, "push", "refused"),
        ("https://2130706433/a.onnx, sha256: " + DIGEST, "push", "refused"),
        ("https://10.0.0.7/a.onnx, sha256: " + DIGEST, "push", "private network: refused"),
        ("zoo:centerface", "rtsp://169.254.169.254/latest", "cloud's metadata: refused"),
        ("zoo:centerface", "http://a:b@localhost/video", "localhost leads to 127.0.0.1, .*refused"),
        ("zoo:centerface", "file:///etc/passwd", "file: sources"),
        ("zoo:centerface", "../secret.txt", "may use"),
        ("zoo:centerface", "media/linked", "lead out"),
        ("zoo:centerface", "camera:/etc/passwd", "is no camera"),
        ("zoo:centerface", "camera:/dev/../etc/passwd", "is no camera"),
    ],
)
def test_what_the_page_refuses(
    files: Files, model: str, source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAMS_ALLOW_PRIVATE_URLS", raising=False)
    with pytest.raises(GroupSpecError, match=said) as caught:
        read(text(model, source), files)
    assert all(one.line in (None, 3, 5) for one in caught.value.findings)


def test_lines_of_other_files_are_not_read(files: Files, tmp_path: Path) -> None:
    for name in ("/etc/passwd", "../secret.txt", "media/link.mp4", str(tmp_path / "secret.txt")):
        wrong = f"name: g\nnodes:\n  n: {{model: zoo:ppocr-v4-rec, task: {{characters: !lines {name}}}}}\n"
        with pytest.raises(GroupSpecError, match="may use") as caught:
            read(wrong, files)
        assert caught.value.findings[0].line == 3


def record(model: str, source: str) -> GroupRecord:
    node: dict[str, Any] = {"model": model, "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    spec = GroupSpec.model_validate({"name": "g", "nodes": {"n": node}, "streams": {"s": {"source": source}}})
    ref = ModelRef(name="n", digest=DIGEST, parts=(ModelPart(suffix=".onnx", digest=DIGEST, size=1),))
    return GroupRecord(spec=spec, models={"n": ref}, deployed_at=1.0)


def test_a_group_keeps_the_files_and_networks_it_was_deployed_with(files: Files) -> None:
    deployed = record("/srv/other/n.onnx", "/srv/other/v.mp4")
    again = read(group_text(deployed.spec), files, deployed)
    assert again == deployed.spec
    assert known_refs(again, deployed, files) == deployed.models
    changed = again.model_copy(update={"nodes": {"n": again.nodes["n"].model_copy(update={"outputs": ("x",)})}})
    assert known_refs(changed, deployed, files) == {}


def test_secrets_of_cameras_are_hidden_and_kept(files: Files) -> None:
    deployed = record("pypi:a==1.0/b.onnx", "rtsp://user:s3cret@camera/main?token=abc")
    shown = group_text(deployed.spec)
    assert "s3cret" not in shown
    assert "abc" not in shown
    assert read(shown, files, deployed).streams["s"].source == deployed.spec.streams["s"].source
    assert read(shown, files).streams["s"].source == "rtsp://camera/main?token=***"


NVR = "rtsp://nvr/user=admin_password=geheim_channel={}_stream=0.sdp"


def cameras(**sources: str | tuple[str, str]) -> GroupRecord:
    """A deployed group with these streams: their sources, or sources and substreams."""
    base = record("pypi:a==1.0/b.onnx", "push")
    pairs = {name: one if isinstance(one, tuple) else (one, None) for name, one in sources.items()}
    streams = {name: StreamSpec(source=source, substream=sub) for name, (source, sub) in pairs.items()}
    return base.model_copy(update={"spec": base.spec.model_copy(update={"streams": streams})})


def network(token: str) -> GroupRecord:
    """A deployed group whose network is fetched with a token."""
    base = record("pypi:a==1.0/b.onnx", "push")
    node = {"model": f"https://models.example/a.onnx?token={token}", "sha256": DIGEST, "input": {"size": [8, 8]}}
    nodes = {"n": NodeSpec.model_validate({**node, "task": {"type": "raw"}})}
    return base.model_copy(update={"spec": base.spec.model_copy(update={"nodes": nodes})})


@pytest.mark.parametrize(
    "deployed",
    [
        cameras(**{f"cam{n}": NVR.format(n) for n in range(1, 5)}),
        cameras(a="http://cam/video?token=one", b="http://cam/video?token=two", c="http://cam/video"),
        cameras(a="rtsp://one:x@cam/1", b="rtsp://cam/1", c="rtsp://two:y@cam/1"),
        cameras(a=(NVR.format(1), NVR.format(1).replace("stream=0", "stream=1")), b=NVR.format(1)),
        network("geheim"),
    ],
)
def test_each_address_gets_its_own_secret_back(files: Files, deployed: GroupRecord) -> None:
    shown = group_text(deployed.spec)
    assert "geheim" not in shown
    assert read(shown, files, deployed) == deployed.spec


def test_a_stream_of_another_name_gets_the_secret_of_the_only_one_that_is_shown_so(files: Files) -> None:
    deployed = cameras(a="rtsp://u:x@cam/1", b="rtsp://u:y@cam/2")
    text = group_text(deployed.spec).replace("  b:", "  yard:")
    streams = read(text, files, deployed).streams
    assert {name: one.source for name, one in streams.items()} == {"a": "rtsp://u:x@cam/1", "yard": "rtsp://u:y@cam/2"}


def test_an_address_that_may_be_of_several_streams_is_refused(files: Files) -> None:
    deployed = cameras(**{f"cam{n}": NVR.format(n) for n in range(1, 4)})
    text = group_text(deployed.spec).replace("cam2", "yard")
    with pytest.raises(GroupSpecError, match=r"streams.yard.source: .*cam1, cam2, cam3 .*write it in full") as caught:
        read(text, files, deployed)
    assert "geheim" not in str(caught.value)
    [finding] = caught.value.findings
    assert text.splitlines()[(finding.line or 0) - 1].strip().startswith(("yard:", "source:"))
    shown = "  yard:\n    source: rtsp://nvr/user=admin_password="
    assert shown in text
    full = text.replace(f"{shown}***", f"  yard:\n    source: {NVR.format(9)}")
    assert read(full, files, deployed).streams["yard"].source == NVR.format(9)


def test_a_stream_keeps_an_address_without_secrets_that_is_deployed_so(files: Files) -> None:
    deployed = cameras(a="rtsp://u:x@cam/1", b="rtsp://cam/1")
    text = group_text(deployed.spec).replace("  b:", "  yard:")
    assert read(text, files, deployed).streams["yard"].source == "rtsp://cam/1"


def test_tokens_of_networks_are_hidden_and_kept(files: Files) -> None:
    deployed = network("geheim")
    shown = group_text(deployed.spec)
    assert "geheim" not in shown
    assert "https://models.example/a.onnx?token=***" in shown
    assert "geheim" in group_text(deployed.spec, secrets=True)
    again = read(shown, files, deployed)
    assert again.nodes["n"].model == deployed.spec.nodes["n"].model
    assert read(shown, files).nodes["n"].model.endswith("***")
