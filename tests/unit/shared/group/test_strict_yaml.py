"""Files are read strictly, and what is wrong with them is said with its line, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import load_group
from hams_shared.group.strict_yaml import MAX_BYTES, MAX_DEPTH, MAX_NODES, StrictYamlError, load

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\nb: 4", "line 3: key 'a' stands twice, first in line 1; line 4: key 'b' stands twice"),
        ("s: {x: 1, x: 2}", "line 1: key 'x' stands twice, first in line 1"),
        ("a:\n  - {b: 1}\n  - b: 1\n    b: 2", "line 4: key 'b' stands twice, first in line 3"),
        ("[" * 3000 + "]" * 3000, f"nested more than {MAX_DEPTH} deep"),
        ("{a: " * 3000 + "}" * 3000, f"nested more than {MAX_DEPTH} deep"),
        ("- " * 3000 + "x", f"nested more than {MAX_DEPTH} deep"),
        (LAUGHS, "values, aliases expanded"),
        ("a: &a [*a]", "stands within what it names"),
        ("a: [1", "line 1, column 6: not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "line 1, column 4: not YAML"),
        ("a: 2026-99-99", "not YAML"),
        ("\x00", "not YAML"),
        ("l: {1: x, '1': y}", "line 1: key '1' stands twice"),
        ("l: {1: x, 0x1: y}", "line 1: key '0x1' stands twice"),
        ("b: &b {x: 1}\nn:\n  <<: *b\n  <<: *b", "line 4: key '<<' stands twice"),
        ("a: !!bool 3", "the type of its tag"),
        ("a: !!timestamp x", "the type of its tag"),
        ("[" + "1," * MAX_NODES + "]", f"more than {MAX_NODES} values"),
    ],
)
def test_what_is_not_taken(text: str, said: str) -> None:
    with pytest.raises(StrictYamlError) as caught:
        load(text)
    assert said in str(caught.value)


def test_what_is_taken() -> None:
    document = load("base: &b {x: 1, y: 2}\nn:\n  <<: *b\n  x: 3\nlist:\n  - 1\n  - z: 4\n")
    assert document.data == {"base": {"x": 1, "y": 2}, "n": {"x": 3, "y": 2}, "list": [1, {"z": 4}]}
    assert document.position(("n", "x")) == (4, 3)
    assert document.position(("list", 1, "z")) == (7, 5)
    assert document.position(("n", "q", "r")) == (2, 1)
    assert document.position(()) == (None, None)
    assert load("").data is None


GROUP = """\
name: g
stratgy: hfs
nodes:
  face:
    mod: m.onnx
    input: {sise: [8, 8]}
    task: {type: raw}
    crop: {squre: true}
streams:
  s: {source: push, loup: true}
  t: {source: 'gopher://x'}
"""


def test_all_faults_are_told_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "group.yaml"
    path.write_text(GROUP)
    with pytest.raises(GroupSpecError) as caught:
        load_group(path)
    text = str(caught.value)
    for said in (
        "line 2: stratgy: unknown key (did you mean strategy?)",
        "line 5: nodes.face.mod: unknown key (did you mean model?)",
        "line 4: nodes.face.model: is missing",
        "line 6: nodes.face.input.sise: unknown key (did you mean size?)",
        "line 8: nodes.face.crop.squre: unknown key (did you mean square?)",
        "line 10: streams.s.loup: unknown key (did you mean loop?)",
        "line 11: streams.t.source: gopher:// is no kind of source",
    ):
        assert said in text, (said, text)


def test_all_faults_of_the_graph_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "group.yaml"
    node = "{model: m.onnx, input: {size: [8, 8]}, task: {type: raw}"
    path.write_text(
        f"name: g\nnodes:\n  face: {node}}}\n  age: {node}, parent: fase}}\n  box: {node}, parent: face}}\n"
        f"  a: {node}, parent: b}}\n  b: {node}, parent: a}}\n"
    )
    with pytest.raises(GroupSpecError) as caught:
        load_group(path)
    for said in ("parent 'fase' is not a node of this group (did you mean face?)", "called 'box'", "form a circle"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GROUP.encode("utf-16"), "in UTF-16: save it as UTF-8"),
        (b"\xe9", "is not a text file in UTF-8"),
        (b"#" * (MAX_BYTES + 1), "is larger than 1 MiB"),
    ],
)
def test_files_that_are_not_read(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "group.yaml").write_bytes(data)
    with pytest.raises(GroupSpecError) as caught:
        load_group(tmp_path / "group.yaml")
    assert said in str(caught.value)


FAIR = "name: g\nnodes:\n  face: {model: %s, input: {size: [8, 8]}, task: {type: raw}}\nstreams: {s: {source: %s}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FAIR % ("m.onnx", "push") + "priority: yes", "line 5: priority: must be a number, not true"),
        (FAIR % ("m.onnx", "push") + "target_fps: .inf", "line 5: target_fps: must be a finite number"),
        (FAIR % ("m.onnx", "~nobody-here/x.mp4"), "'~nobody-here/x.mp4' is not the name of a file"),
        (FAIR % ("~nobody-here/m.onnx", "push"), "'~nobody-here/m.onnx' is not the name of a file"),
        (FAIR % ('"m\\0.onnx"', "push"), "is not the name of a file"),
        (FAIR % ("m.onnx", '"a\\nb.mp4"'), "streams.s.source: must not hold control characters"),
        (FAIR % ("m.onnx", "push") + "x: !lines [a]", "line 5: !lines …: not the name of a file"),
        (FAIR % ("m.onnx", "push") + "".join(f"k{n}: 1\n" for n in range(60)), "k49: unknown key"),
        (FAIR % ("m.onnx", "push") + "".join(f"k{n}: 1\n" for n in range(60)), "; and 10 more"),
    ],
)
def test_values_that_are_not_taken(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "group.yaml").write_text(text)
    with pytest.raises(GroupSpecError) as caught:
        load_group(tmp_path / "group.yaml")
    assert said in str(caught.value)
