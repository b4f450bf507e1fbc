"""The machine-readable documents are those of this code, and say what it does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "schema" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return script("generate")


@pytest.fixture(scope="module")
def groups(generate: ModuleType) -> Any:
    """A validator of group files."""
    schema = generate.group_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("name", ["generate", "generate_cli"])
def test_the_committed_documents_are_this_codes(name: str) -> None:
    for path, text in script(name).documents().items():
        assert path.read_text() == text, f"{path} is old: make schema"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_fit_the_schema(groups: Any, path: Path) -> None:
    class Loader(yaml.SafeLoader):
        """Reads tags of ours as what they stand for."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: [])
    content = yaml.load(path.read_text(), Loader)
    groups.validate(json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"strateggy": "hfs"}, "strateggy"),
        ({"nodes": {"a": {"model": "m.onnx", "input": {"size": [1]}, "task": {"type": "raw"}}}}, "size"),
        ({"nodes": {"a": {"model": "m", "input": {"size": [1, 1]}, "task": {"type": "ssd"}}}}, "task"),
        ({"nodes": {"a": {"model": "m", "input": {"size": [1, 1]}, "task": {"type": "ssd", "anchor": 1}}}}, "task"),
    ],
)
def test_what_is_wrong_does_not(groups: Any, change: dict[str, Any], where: str) -> None:
    good = {"name": "g", "nodes": {"a": {"model": "m.onnx", "input": {"size": [8, 8]}, "task": {"type": "raw"}}}}
    groups.validate(good)
    error = jsonschema.exceptions.best_match(groups.iter_errors({**good, **change}))
    assert error is not None
    assert where in f"{error.message} {list(error.absolute_path)}"


@pytest.mark.parametrize(
    "node",
    [
        {"model": "zoo:centerface"},
        {"model": "zoo:centerface", "input": {"size": [320, 320]}, "task": {"threshold": 0.7}},
    ],
)
def test_a_network_of_the_zoo_needs_nothing_more(groups: Any, node: dict[str, Any]) -> None:
    groups.validate({"name": "g", "nodes": {"a": node}})
    for wrong in ({**node, "weigth": 1}, {**node, "input": {"sise": [1, 1]}}, {**node, "model": "a.onnx", "task": {}}):
        assert not groups.is_valid({"name": "g", "nodes": {"a": wrong}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere(generate: ModuleType) -> None:
    document = generate.asyncapi()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                at: Any = document
                for key in value["$ref"].removeprefix("#/").split("/"):
                    at = at[key]
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(document)
    assert document["channels"]["result"]["address"] == "hams.v1.result.{group}.{stream}"
