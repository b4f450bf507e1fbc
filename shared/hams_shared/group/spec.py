"""The group file: which networks form a group, how crops flow between them, and which streams feed it.

The pydantic models here are the single description of ``group.yaml``: its JSON Schema, its error messages and the
record that travels to the scheduler all come from them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from hams_shared.errors import BadInputError, Finding, GroupSpecError
from hams_shared.group import conditions, node_faults, strict_yaml
from hams_shared.group.camera_url import redacted
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.findings import MOST, Strict, describe_each, findings_in, in_a_line, refused
from hams_shared.group.node_spec import Name, NodeSpec
from hams_shared.group.results_spec import ResultsSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.group.strict_yaml import Document

StrategyName = Literal["default", "round-robin", "fastest", "mfs", "hfs", "optimal", "replicated"]
"""How groups are placed; the scheduler has a strategy of each name."""

VGA = 640 * 480
"""Pixels of a frame that is not known yet."""
LOSSLESS, LIVE = (8, 32), 3
"""Frames of one stream under way at once where the group file does not say: of a lossless one at least and, as far as
`WINDOW_BYTES` reach, at most; of a live one."""
WINDOW_BYTES = 96 << 20
"""Memory of the frames of one lossless stream, bytes."""
WINDOW_PART = 0.25
"""The part of the deadline of lossless frames for which they wait for each other: else slow devices would get all of
them again and again."""
MOST_IN_FLIGHT = 64
"""Where many devices need more."""


class GroupSpec(Strict):
    """A group file."""

    name: Name
    strategy: StrategyName = "hfs"
    target_fps: float | None = Field(None, gt=0, allow_inf_nan=False)
    priority: int = Field(0, ge=-100, le=100)
    share: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="frames/s on a busy device relative to what the plan foresees; 2: twice as many",
    )
    deadline_s: float = Field(10.0, gt=0, le=600, description="a frame not joined by then is sent again or dropped")
    in_flight: int | None = Field(
        None,
        ge=1,
        le=256,
        description="frames of one stream under way at once [lossless: 8 to 32; live: 3, more for many devices]",
    )
    results: ResultsSpec = ResultsSpec()
    nodes: dict[Name, NodeSpec] = Field(min_length=1)
    streams: dict[Name, StreamSpec] = Field({})
    events: EventsSpec = EventsSpec()

    @model_validator(mode="after")
    def _graph(self) -> GroupSpec:
        faults = [*node_faults.faults(self.nodes), *conditions.faults(self.nodes, self.streams, self.events)]
        faults = faults or [*node_faults.inputs(self.nodes, self.chosen)]
        if faults:
            raise refused(faults)
        return self

    def window(self, *, lossless: bool, room: int = 0, pixels: float = VGA, fps: float = math.inf) -> int:
        """Frames of one stream under way at once.

        `room`: how many its devices need so that they always have work; `pixels`: of a frame; `fps`: of the stream.
        Lossless streams take more where memory and the deadline allow: frames that need much of one device come in
        bursts, and the others must not wait for them. A live frame would grow old.
        """
        if self.in_flight:
            return self.in_flight
        spare = int(min(WINDOW_BYTES / (3 * pixels), fps * self.deadline_s * WINDOW_PART, LOSSLESS[1]))
        return min(max(room, LOSSLESS[0], spare) if lossless else max(room, LIVE), MOST_IN_FLIGHT)

    @property
    def root(self) -> str:
        """The node that sees whole frames."""
        return next(name for name, node in self.nodes.items() if node.parent is None)

    @cached_property
    def chosen(self) -> frozenset[str]:
        """Nodes whose objects the pipeline chooses and sends to them; agents give the others their parent's."""
        root = self.root
        looks_again = self.nodes[root].track is not None or any(s.changes_view for s in self.streams.values())
        return frozenset(
            name
            for name, node in self.nodes.items()
            if node.when is not None or node.cadence is not None or (looks_again and node.parent == root)
        ) - {root}

    @cached_property
    def slow(self) -> frozenset[str]:
        """Nodes with a budget: no frame waits for their answers."""
        return frozenset(name for name, node in self.nodes.items() if node.budget is not None)

    def without_secrets(self) -> GroupSpec:
        """The group as people may see it."""
        nodes = {name: node.without_secrets() for name, node in self.nodes.items()}
        streams = {name: stream.without_secrets() for name, stream in self.streams.items()}
        return self.model_copy(update={"nodes": nodes, "streams": streams})

    def children(self, node: str) -> tuple[str, ...]:
        """Nodes that run on the crops `node` finds, in file order."""
        return tuple(name for name, spec in self.nodes.items() if spec.parent == node)

    def depth(self, node: str) -> int:
        """How many ancestors `node` has."""
        depth, parent = 0, self.nodes[node].parent
        while parent is not None:
            depth, parent = depth + 1, self.nodes[parent].parent
        return depth

    def depth_first(self) -> tuple[str, ...]:
        """All nodes, every parent before its children."""
        children: dict[str | None, list[str]] = {}
        for name, spec in self.nodes.items():
            children.setdefault(spec.parent, []).append(name)
        order: list[str] = []
        todo = [self.root]
        while todo:
            node = todo.pop()
            order.append(node)
            todo.extend(reversed(children.get(node, ())))
        return tuple(order)


def parse_group(data: Any, origin: str = "group", document: Document | None = None) -> GroupSpec:
    """Check `data` (as read from YAML or JSON) and return the group.

    Raises:
        GroupSpecError: naming every wrong key and what is wrong with it.
    """
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {'list' if isinstance(data, list) else 'text'}"
        raise GroupSpecError(f"{origin} is {found}; a group file is a map with `name` and `nodes`")
    try:
        return GroupSpec.model_validate(data)
    except ValidationError as error:
        document = document or Document(None, {}, {})
        each = describe_each(error.errors(include_url=False), "group", GroupSpec)
        findings = tuple(Finding(*document.position(one.loc, one.column), one.where, one.text) for one in each[:MOST])
        text = f"{origin}: {in_a_line(each, document.place)}"
        raise GroupSpecError(text, "see docs/group-yaml.md", findings) from None


T = TypeVar("T")
Find = Callable[[str], Path]
"""Returns the absolute path of a file that a group file names. Raises GroupSpecError: it may not name it."""


def load_group(path: Path, complete: Callable[[Any], Any] | None = None) -> GroupSpec:
    """Read a group file; file sources in it become absolute, relative to the file's folder.

    `complete` may fill in what the file leaves out, before it is checked.

    Raises:
        GroupSpecError: the file is missing, is not YAML, or does not describe a group.
    """
    try:
        text = strict_yaml.read_text(path)
    except strict_yaml.StrictYamlError as error:
        raise GroupSpecError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    return group_of(text, str(path), partial(_file, base=path.resolve().parent), complete)


def group_of(text: str, origin: str, find: Find, complete: Callable[[Any], Any] | None = None) -> GroupSpec:
    """Return the group that the content of a group file describes, as :func:`load_group`; `find` finds its files."""
    try:
        document = strict_yaml.load(text, {"!lines": partial(_lines, find), "!embeddings": partial(_embeddings, find)})
    except strict_yaml.StrictYamlError as error:
        raise GroupSpecError(f"{origin}: {error}", findings=findings_in(str(error))) from None
    try:
        data = document.data if complete is None else complete(document.data)
        return with_paths(parse_group(data, origin, document), find)
    except GroupSpecError as error:
        text = error.text if error.text.startswith(origin) else f"{origin}: {error.text}"
        raise GroupSpecError(text, error.hint, tuple(_placed(one, document) for one in error.findings)) from None


def with_paths(spec: GroupSpec, find: Find) -> GroupSpec:
    """Return `spec` with the paths of its files as `find` gives them. Raises GroupSpecError."""
    nodes = {
        name: node.model_copy(update={"model": _absolute(f"nodes.{name}.model", node.model, find)})
        for name, node in spec.nodes.items()
    }
    streams = {
        name: stream.model_copy(update={"source": _absolute(f"streams.{name}.source", stream.source, find)})
        for name, stream in spec.streams.items()
    }
    return spec.model_copy(update={"nodes": nodes, "streams": streams})


def with_paths_in(spec: GroupSpec, folder: Path) -> GroupSpec:
    """Return `spec` with absolute paths: those that are relative begin in `folder`. Raises GroupSpecError."""
    return with_paths(spec, partial(_file, base=folder.resolve()))


def _placed(finding: Finding, document: Document) -> Finding:
    """The finding with its line, where only its path was known."""
    if finding.line is not None or not finding.path:
        return finding
    line, column = document.position(tuple(finding.path.split(".")))
    return finding._replace(line=line, column=column)


def _lines(find: Find, _loader: yaml.SafeLoader, node: yaml.Node) -> list[str]:
    """``!lines FILE``: the lines of a text file, as a list."""
    return _from_file("!lines", find, node, lambda path: strict_yaml.read_text(path).splitlines())


def _embeddings(find: Find, _loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    """``!embeddings FILE``: the vectors of labels, as they travel."""
    from hams_shared.group import label_vectors  # numpy: a tenth of a second of commands that need none

    return _from_file("!embeddings", find, node, label_vectors.read)


def _from_file(tag: str, find: Find, node: yaml.Node, read: Callable[[Path], T]) -> T:
    """Return what `read` makes of the file that a tag names. Raises GroupSpecError with the line."""
    name = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    line = node.start_mark.line + 1
    at = f"{tag} {name or '…'}"
    try:
        if not name:
            raise GroupSpecError("not the name of a file")
        return read(find(name))
    except (strict_yaml.StrictYamlError, GroupSpecError, BadInputError) as error:
        found = Finding(line, node.start_mark.column + 1, "", f"{at}: {error}")
        raise GroupSpecError(f"line {line}: {at}: {error}", findings=(found,)) from None


def _absolute(where: str, source: str, find: Find) -> str:
    """Return `source` unchanged when it has a scheme (``pypi:``, ``https://`` …), else as an absolute path."""
    if source == "push" or re.match(r"^[a-z][a-z0-9+]+:", source):
        return source
    try:
        return str(find(source))
    except GroupSpecError as error:
        found = error.findings or (Finding(None, None, where, str(error)),)
        raise GroupSpecError(f"{where}: {error.text}", error.hint, found) from None


def _file(name: str, base: Path) -> Path:
    try:
        return (base / Path(name).expanduser()).resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody, a NUL
        raise GroupSpecError(f"{redacted(name)!r} is not the name of a file: {error}") from None
