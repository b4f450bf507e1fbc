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
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from hams_shared.errors import GroupSpecError
from hams_shared.group import conditions, node_faults, strict_yaml
from hams_shared.group.camera_url import redacted
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.findings import Strict, describe_all, refused
from hams_shared.group.node_spec import Name, NodeSpec
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
    results: Literal["msgpack", "json"] = Field("msgpack", description="how joined results are written")
    nodes: dict[Name, NodeSpec] = Field(min_length=1)
    streams: dict[Name, StreamSpec] = Field({})
    events: EventsSpec = EventsSpec()

    @model_validator(mode="after")
    def _graph(self) -> GroupSpec:
        faults = [*node_faults.faults(self.nodes), *conditions.faults(self.nodes, self.streams, self.events)]
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
        place = (document or Document(None, {}, {})).place
        text = describe_all(error.errors(include_url=False), "group", GroupSpec, place)
        raise GroupSpecError(f"{origin}: {text}", "see docs/group-yaml.md") from None


def load_group(path: Path, complete: Callable[[Any], Any] | None = None) -> GroupSpec:
    """Read a group file; file sources in it become absolute, relative to the file's folder.

    `complete` may fill in what the file leaves out, before it is checked.

    Raises:
        GroupSpecError: the file is missing, is not YAML, or does not describe a group.
    """
    try:
        document = strict_yaml.load(strict_yaml.read_text(path), {"!lines": partial(_lines, path.resolve().parent)})
    except strict_yaml.StrictYamlError as error:
        raise GroupSpecError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    try:
        data = document.data if complete is None else complete(document.data)
        spec = parse_group(data, str(path), document)
    except GroupSpecError as error:
        raise (
            error if error.text.startswith(str(path)) else GroupSpecError(f"{path}: {error.text}", error.hint)
        ) from None
    base = path.resolve().parent
    nodes = {n: node.model_copy(update={"model": absolute(node.model, base)}) for n, node in spec.nodes.items()}
    streams = {s: st.model_copy(update={"source": absolute(st.source, base)}) for s, st in spec.streams.items()}
    return spec.model_copy(update={"nodes": nodes, "streams": streams})


def _lines(base: Path, _loader: yaml.SafeLoader, node: yaml.Node) -> list[str]:
    """``!lines FILE``: the lines of a text file, found relative to `base`, as a list."""
    name = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    at = f"line {node.start_mark.line + 1}: !lines {name or '…'}"
    if not name:
        raise GroupSpecError(f"{at}: not the name of a file")
    try:
        return strict_yaml.read_text(_file(name, base)).splitlines()
    except strict_yaml.StrictYamlError as error:
        raise GroupSpecError(f"{at}: {error}") from None


def absolute(source: str, base: Path) -> str:
    """Return `source` unchanged when it has a scheme (``pypi:``, ``https://`` …), else as an absolute path."""
    if source == "push" or re.match(r"^[a-z][a-z0-9+]+:", source):
        return source
    return str(_file(source, base))


def _file(name: str, base: Path) -> Path:
    try:
        return (base / Path(name).expanduser()).resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody, a NUL
        raise GroupSpecError(f"{redacted(name)!r} is not the name of a file: {error}") from None
