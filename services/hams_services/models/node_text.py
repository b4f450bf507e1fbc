"""Nodes of group files as text that people can paste, and whole group files made of them. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hams_shared.group.findings import NAME_PATTERN

LONG = 100
"""Longer lists go to a file of their own, one entry a line."""
WIDTH = 100
INDENT = "  "


_QUOTED = re.compile(r"!lines '([A-Za-z0-9_./-]+)'")
"""PyYAML quotes whatever has a tag."""


class Lines(str):
    """The name of a file whose lines are a list: ``!lines FILE``."""


class _Flow(yaml.SafeDumper):
    """Lists and small maps in one line, as people write them."""


def _list(dumper: yaml.SafeDumper, value: Sequence[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


def _map(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    plain = {int(key) if isinstance(key, str) and key.isdecimal() else key: one for key, one in value.items()}
    return dumper.represent_mapping("tag:yaml.org,2002:map", plain.items(), flow_style=len(str(value)) < 90)


def _file(dumper: yaml.SafeDumper, value: Lines) -> yaml.Node:
    return dumper.represent_scalar("!lines", str(value))


_Flow.add_representer(list, _list)
_Flow.add_representer(tuple, _list)
_Flow.add_representer(dict, _map)
_Flow.add_representer(Lines, _file)


def node_lines(name: str, node: Mapping[str, Any], remarks: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Return a node's lines, indented as below ``nodes:``; `remarks` are comments above its keys, a paragraph each."""
    lines = [f"{INDENT}{name}:"]
    for key, value in node.items():
        for remark in (remarks or {}).get(key, ()):
            lines += [f"{INDENT * 2}# {line}" for line in textwrap.wrap(remark, WIDTH)]
        text = yaml.dump({key: value}, Dumper=_Flow, sort_keys=False, allow_unicode=True, width=WIDTH)
        if text.startswith("{"):
            text = f"{key}: {yaml.dump(value, Dumper=_Flow, sort_keys=False, allow_unicode=True, width=1000)}"
            text = text.removesuffix("...\n")
        text = _QUOTED.sub(r"!lines \1", text)
        lines += [f"{INDENT * 2}{line}".rstrip() for line in text.splitlines()]
    return lines


def name_of(text: str, default: str = "network") -> str:
    """Return `text` (a file's stem, a label) as a name in a group file."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")
    plain = re.sub(r"^[^a-z]+", "", plain)[:48].rstrip("-_")
    return plain if re.fullmatch(NAME_PATTERN, plain) else default
