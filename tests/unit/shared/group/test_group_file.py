from __future__ import annotations

from pathlib import Path

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import group_of, load_group

GROUP = """
name: v
nodes:
  text:
    model: m.onnx
    input: {size: [64, 32]}
    task: {type: text, characters: !lines %s}
"""


def test_a_list_out_of_a_file_beside_the_group(tmp_path: Path) -> None:
    (tmp_path / "characters.txt").write_text("A\n京\n#\n: \n", encoding="utf-8")
    (tmp_path / "v.yaml").write_text(GROUP % "characters.txt")
    assert load_group(tmp_path / "v.yaml").nodes["text"].task.params == {"characters": ["A", "京", "#", ": "]}


def test_a_list_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(GROUP % "characters.txt")
    with pytest.raises(GroupSpecError, match=r"line 7: !lines characters.txt: cannot read .*No such file"):
        load_group(tmp_path / "v.yaml")
    (tmp_path / "characters.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GroupSpecError, match="not a text file"):
        load_group(tmp_path / "v.yaml")


def test_other_tags_are_errors(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(GroupSpecError, match="line 1"):
        load_group(tmp_path / "v.yaml")


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("min_agreement: 1.5", "nodes.text.min_agreement: must be less than or equal to 1"),
        ("variants: [int4]", "nodes.text.variants"),
        ("variants: perhaps", "nodes.text.variants"),
    ],
)
def test_what_is_wrong_about_variants(tmp_path: Path, said: str, wrong: str) -> None:
    (tmp_path / "characters.txt").write_text("A\n")
    (tmp_path / "v.yaml").write_text(f"{GROUP % 'characters.txt'}    {said}\n")
    with pytest.raises(GroupSpecError, match=wrong):
        load_group(tmp_path / "v.yaml")


@pytest.mark.parametrize(("said", "meant"), [("variants: false", False), ("variants: [int8]", ("int8",))])
def test_which_variants_a_node_takes(tmp_path: Path, said: str, meant: object) -> None:
    (tmp_path / "characters.txt").write_text("A\n")
    (tmp_path / "v.yaml").write_text(f"{GROUP % 'characters.txt'}    {said}\n")
    node = load_group(tmp_path / "v.yaml").nodes["text"]
    assert (node.variants, node.min_agreement) == (meant, 0.98)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("srt://user:hunter2@host/x", "srt:// is no kind of source: there are file://, http://, https://, rtsp://"),
        ("rtsp:/user:hunter2@host/x", "SCHEME://HOST/PATH"),
        ("rtsp://user:hunter2@/x", "write @ as %40, / as %2F, # as %23"),
        ("rtsp://host:99999/x", "no host can be found"),
    ],
)
def test_an_address_that_is_none_is_named_without_its_secrets(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "group.yaml"
    path.write_text(
        "name: g\nnodes:\n  n: {model: m.onnx, input: {size: [8, 8]}, task: {type: raw}}\n"
        f"streams:\n  s: {{source: '{source}'}}\n"
    )
    with pytest.raises(GroupSpecError) as caught:
        load_group(path)
    assert said in str(caught.value)
    assert "streams.s.source" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: g\nnodes:\n  n: {modl: x}\n", [(3, 3, "nodes.n.model"), (3, 7, "nodes.n.modl")]),
        ("name: G\nnodes: {n: {model: x}}\n", [(1, 1, "name")]),
        ("name: g\nname: h\nnodes: [\n", [(4, 1, "")]),
        ("name: g\nname: h\nnodes: {}\nnodes: {}\n", [(2, None, ""), (4, None, "")]),
        (GROUP % "none.txt", [(7, 36, "")]),
        (
            GROUP.replace("!lines %s", "A") + 'events: {rules: {r: {when: "score >"}}}\n',
            [(8, 10, "events.rules"), (8, 36, "events.rules.r.when")],
        ),
    ],
)
def test_each_finding_has_its_place(tmp_path: Path, text: str, found: list[tuple[object, ...]]) -> None:
    (tmp_path / "g.yaml").write_text(text)
    with pytest.raises(GroupSpecError) as caught:
        load_group(tmp_path / "g.yaml")
    places = [(one.line, one.column, one.path) for one in caught.value.findings]
    assert [place for place in places if place in found] == found, caught.value.findings


def test_files_are_found_where_the_caller_looks(tmp_path: Path) -> None:
    text = "name: g\nnodes:\n  n: {model: m.onnx, input: {size: [8, 8]}, task: {type: raw}}\n"
    assert group_of(text, "g", lambda name: tmp_path / name).nodes["n"].model == str(tmp_path / "m.onnx")

    def nothing(name: str) -> Path:
        raise GroupSpecError(f"{name} may not be named")

    with pytest.raises(GroupSpecError) as caught:
        group_of(text, "g", nothing)
    assert caught.value.findings == ((3, 7, "nodes.n.model", "m.onnx may not be named"),)
