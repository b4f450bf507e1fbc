"""A deployed group as the text of a group file: what it was deployed with, but for its comments and secrets. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from hams_shared.group.node_spec import NodeSpec
from hams_shared.group.spec import GroupSpec

HEAD = "# As the broker has it: comments and `zoo:` names are not kept."
HIDDEN = "Secrets in addresses are hidden, and stay as they are."


class _Dumper(yaml.SafeDumper):
    """Writes small lists and maps in one line, as people do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists within maps."""
        super().increase_indent(flow, False)


class _Flow(dict[str, Any]):
    """A map to be written in one line."""


class _FlowList(list[Any]):
    """A list to be written in one line."""


_Dumper.add_representer(_Flow, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v, flow_style=True))
_Dumper.add_representer(_FlowList, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))

INLINE = 70
"""Parts up to so many characters stand in one line."""


def group_text(spec: GroupSpec, *, secrets: bool = False, note: str = HIDDEN) -> str:
    """Return the group file of `spec`, with the `secrets` in addresses or else with a `note` about them."""
    written = spec if secrets else spec.without_secrets()
    data = written.model_dump(mode="json", exclude_defaults=True)
    data["nodes"] = {name: _node(node) for name, node in written.nodes.items()}
    plain = {key: _shown(value, 0) for key, value in {"name": spec.name, "strategy": spec.strategy, **data}.items()}
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=116)
    return f"{HEAD}{'' if secrets else f' {note}'}\n{text}"


def hidden_in(spec: GroupSpec) -> list[str]:
    """Return the streams and nodes whose addresses hold secrets: ``stream gate``, ``node face``."""
    streams = [f"stream {name}" for name, one in spec.streams.items() if one != one.without_secrets()]
    return streams + [f"node {name}" for name, one in spec.nodes.items() if one != one.without_secrets()]


def _node(node: NodeSpec) -> dict[str, Any]:
    """What a group file must say of a node: a task may imply other values than the keys' defaults."""
    brief = node.model_dump(mode="json", exclude_defaults=True)
    return brief if NodeSpec.model_validate(brief) == node else node.model_dump(mode="json", exclude_none=True)


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        if depth >= 2 and value and len(str(value)) <= INLINE:
            return _Flow(value)
        return {key: _shown(one, depth + 1) for key, one in value.items()}
    return _FlowList(value) if isinstance(value, list) else value
