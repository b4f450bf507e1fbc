"""YAML as people write it for us, read strictly: no key twice, no bottomless nesting, no expanding aliases.

PyYAML takes the last of two equal keys, and recurses as deep as the file nests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 50
"""Deepest nesting of maps and lists."""
MAX_NODES = 100_000
"""Most values, those that aliases repeat counted each time."""

Constructor = Callable[[yaml.SafeLoader, yaml.Node], Any]
Path = tuple[str | int, ...]


class StrictYamlError(ValueError):
    """A text that is not taken; the text of the error begins with the line."""


@dataclass(frozen=True)
class Document:
    """What a file says, and where."""

    data: Any
    lines: Mapping[Path, int]
    """Line, from 1, by the path of keys and list indexes."""

    def line(self, path: Path) -> int | None:
        """The line of a value, or of the nearest one around it that the file has."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None


def load(text: str, constructors: Mapping[str, Constructor] | None = None) -> Document:
    """Read one document; `constructors` are for tags of our own.

    Raises:
        StrictYamlError: it is not YAML, nests too deep, is too large, or has keys twice: all of them are named.
    """

    class Loader(yaml.SafeLoader):
        pass

    for tag, constructor in (constructors or {}).items():
        Loader.add_constructor(tag, constructor)
    try:
        _check_depth(text)
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(None, {})
            _check_size(root)
            twice = list(_twice(root))
            if twice:
                raise StrictYamlError("; ".join(twice))
            return Document(loader.construct_document(root), dict(_lines(root, ())))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise StrictYamlError(f"{at}not YAML: {problem}") from None
    except ValueError as error:  # a date such as 2026-99-99
        raise error if isinstance(error, StrictYamlError) else StrictYamlError(f"not YAML: {error}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise StrictYamlError(f"line {line}: nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_size(root: yaml.Node) -> None:
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, around: frozenset[int]) -> int:
        if id(node) in around:
            raise StrictYamlError(f"line {node.start_mark.line + 1}: an alias stands within what it names")
        if id(node) not in sizes:
            inner = around | {id(node)}
            sizes[id(node)] = 1 + sum(size(part, inner) for part in _parts(node))
        if sizes[id(node)] > MAX_NODES:
            raise StrictYamlError(f"line {node.start_mark.line + 1}: more than {MAX_NODES} values, aliases expanded")
        return sizes[id(node)]

    size(root, frozenset())


def _twice(node: yaml.Node, done: set[int] | None = None) -> Iterator[str]:
    done = set() if done is None else done
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in first:
                yield f"line {line}: key {key.value!r} stands twice, first in line {first[key.tag, key.value]}"
            first.setdefault((key.tag, key.value), line)
    for part in _parts(node):
        yield from _twice(part, done)


def _lines(node: yaml.Node, path: Path) -> Iterator[tuple[Path, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*path, str(key.value))
                yield from _lines(value, inner)
                yield inner, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))
