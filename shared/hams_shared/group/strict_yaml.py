"""YAML as people write it for us, read strictly: no key twice, no bottomless nesting, no expanding aliases.

PyYAML takes the last of two equal keys, and recurses as deep as the file nests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 50
"""Deepest nesting of maps and lists."""
MAX_NODES = 100_000
"""Most values, those that aliases repeat counted each time."""
MAX_BYTES = 1 << 20
"""Largest file."""

Constructor = Callable[[yaml.SafeLoader, yaml.Node], Any]
KeyPath = tuple[str | int, ...]


class StrictYamlError(ValueError):
    """A text that is not taken; the text of the error begins with the line."""


@dataclass(frozen=True)
class Document:
    """The content of a file, with line numbers."""

    data: Any
    marks: Mapping[KeyPath, tuple[int, int]]
    """Line and column, from 1, of keys and list entries, by the path of keys and list indexes."""
    texts: Mapping[KeyPath, tuple[int, int]]
    """Line and column, from 1, where a text begins that stands in one line of the file as it is."""

    def place(self, path: KeyPath, column: int | None = None) -> str:
        """``line 7: ``, and for a `column` of the value at `path` its column in the file or else in the value."""
        begins = self.texts.get(path)
        if begins is not None and column is not None:
            return f"line {begins[0]}, column {begins[1] + column - 1}: "
        line = self.position(path)[0]
        parts = [] if line is None else [f"line {line}"]
        parts += [] if column is None else [f"column {column} of the value"]
        return f"{', '.join(parts)}: " if parts else ""

    def position(self, path: KeyPath, column: int | None = None) -> tuple[int | None, int | None]:
        """Line and column of a part, or of the nearest one around it that the file has; `column` as in `place`."""
        begins = self.texts.get(path)
        if begins is not None and column is not None:
            return begins[0], begins[1] + column - 1
        while path:
            if path in self.marks:
                return self.marks[path]
            path = path[:-1]
        return None, None


def read_text(path: Path) -> str:
    """Read a text file in UTF-8. Raises StrictYamlError: there is none, it is no text, or it is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise StrictYamlError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise StrictYamlError(f"{path} is not a text file in UTF-8 but in UTF-16: save it as UTF-8")
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise StrictYamlError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StrictYamlError(f"{path} is not a text file in UTF-8") from None
    except StrictYamlError:
        raise
    except ValueError as error:  # a NUL in the name
        raise StrictYamlError(f"cannot read {str(path)!r}: {error}") from None


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
        _check_events(text)
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(None, {}, {})
            _check_size(root)
            twice = list(_twice(root, loader))
            if twice:
                raise StrictYamlError("; ".join(twice))
            return Document(_constructed(loader, root), dict(_marks(root, ())), dict(_texts(root, ())))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise StrictYamlError(f"{at}not YAML: {problem}") from None
    except ValueError as error:  # a date such as 2026-99-99
        raise error if isinstance(error, StrictYamlError) else StrictYamlError(f"not YAML: {error}") from None


def _constructed(loader: yaml.SafeLoader, root: yaml.Node) -> Any:
    try:
        return loader.construct_document(root)
    except (AttributeError, KeyError):  # PyYAML's, of `!!bool 3` and `!!timestamp x`
        raise StrictYamlError("not YAML: a value does not have the type of its tag (!!…)") from None


def _check_events(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if count > MAX_NODES:
            raise StrictYamlError(f"line {line}: more than {MAX_NODES} values")
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
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


def _key(node: yaml.ScalarNode, loader: yaml.SafeLoader) -> str:
    """A key as messages have it: ``1``, ``0x1`` and ``'1'`` are one."""
    plain = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    try:
        return str(loader.construct_object(node)) if plain else str(node.value)
    except KeyError:  # `!!bool 3`
        return str(node.value)


def _twice(node: yaml.Node, loader: yaml.SafeLoader, done: set[int] | None = None) -> Iterator[str]:
    done = set() if done is None else done
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, _key(key, loader)
            if name in first:
                yield f"line {line}: key {key.value!r} stands twice, first in line {first[name]}"
            first.setdefault(name, line)
    for part in _parts(node):
        yield from _twice(part, loader, done)


def _marks(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, tuple[int, int]]]:
    yield path, (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*path, str(key.value))
                yield from _marks(value, inner)
                yield inner, (key.start_mark.line + 1, key.start_mark.column + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _marks(value, (*path, index))


def _texts(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, tuple[int, int]]]:
    """Where texts begin, but for folded ones and those with escapes, whose columns are not those of the file."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _texts(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _texts(value, (*path, index))
    elif isinstance(node, yaml.ScalarNode) and node.tag.endswith(":str") and node.start_mark.line == node.end_mark.line:
        quotes = 0 if node.style is None else 1
        if node.end_mark.column - node.start_mark.column == len(node.value) + 2 * quotes:
            yield path, (node.start_mark.line + 1, node.start_mark.column + 1 + quotes)
