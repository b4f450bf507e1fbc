"""Group files that name networks of the zoo: their manifests fill in missing keys before the group is checked.

The resulting group is complete: agents, scheduler and pipeline need no zoo.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hams_services.models.manifest import Manifest, ZooEntry, find_entry, zoo
from hams_shared.errors import BadInputError, Finding, GroupSpecError
from hams_shared.group import spec, strict_yaml
from hams_shared.group.findings import Strict
from hams_shared.group.node_spec import TaskSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import mounted_hint

PREFIX = "zoo:"


def load_group(path: Path) -> GroupSpec:
    """Read a group file as :func:`hams_shared.group.spec.load_group` does; ``model: zoo:NAME`` is filled in.

    Raises:
        GroupSpecError: as there, or the zoo has no such network.
    """
    return spec.load_group(path, partial(with_zoo, manifests=zoo()))


def load_groups(path: Path) -> list[GroupSpec]:
    """Read a group file, or a file that lists several: ``groups: [face.yaml, person.yaml]``, relative to its folder.

    Raises:
        GroupSpecError: as :func:`load_group`; or the list is malformed, or names a group twice.
    """
    if not path.exists() and (hint := mounted_hint()):
        raise GroupSpecError(f"{path} does not exist", hint)
    try:
        listed = strict_yaml.load(strict_yaml.read_text(path)).data
    except strict_yaml.StrictYamlError:
        listed = None  # a group file, perhaps with tags of its own, or an error that load_group explains
    if not isinstance(listed, dict) or "groups" not in listed:
        return [load_group(path)]
    names = listed["groups"]
    if set(listed) != {"groups"} or not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise GroupSpecError(f"{path}: a list of groups is `groups: [FILE, …]` and nothing else")
    return _once([load_group(path.parent / name) for name in names], str(path))


def load_groups_with(path: Path, strategy: str | None) -> list[GroupSpec]:
    """As :func:`load_groups`, each with `strategy` if one is given."""
    specs = load_groups(path)
    return [spec.model_copy(update={"strategy": strategy}) for spec in specs] if strategy else specs


def load_all_groups(paths: list[Path]) -> list[GroupSpec]:
    """Read several files as :func:`load_groups` does. Raises GroupSpecError, also where two groups have one name."""
    return _once([spec for path in paths for spec in load_groups(path)], ", ".join(map(str, paths)))


def _once(specs: list[GroupSpec], where: str) -> list[GroupSpec]:
    """Return `specs`. Raises GroupSpecError if a name is there twice."""
    twice = {spec.name for spec in specs if [s.name for s in specs].count(spec.name) > 1}
    if twice:
        raise GroupSpecError(f"{where}: two groups are called {', '.join(sorted(twice))}")
    return specs


def with_zoo(data: Any, manifests: Mapping[str, Manifest]) -> Any:
    """Return a group file's content with every ``model: zoo:NAME`` filled in from the manifests.

    Raises:
        GroupSpecError: there is no such network, head or variant, or several heads and none chosen.
    """
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), dict):
        return data  # the check of the group names the error
    return {**data, "nodes": {name: _node(name, node, manifests) for name, node in data["nodes"].items()}}


def _node(name: object, node: Any, manifests: Mapping[str, Manifest]) -> Any:
    if not isinstance(node, dict) or not str(node.get("model", "")).startswith(PREFIX):
        return node
    try:
        return merge(node, find_entry(str(node["model"]), manifests))
    except BadInputError as error:
        where = f"nodes.{name}.model"
        found = Finding(None, None, where, f"{error.text} ({error.hint})" if error.hint else error.text)
        raise GroupSpecError(f"{where}: {error.text}", error.hint, (found,)) from None


def merge(node: Mapping[str, Any], entry: ZooEntry) -> dict[str, Any]:
    """Return the node, with its missing keys from the zoo.

    `input`, `crop` and `task` are merged key by key. A `task` of another `type` replaces the zoo's, with its `outputs`.

    Raises:
        BadInputError: the network has several heads, and the node names neither a head nor a task.
    """
    manifest = entry.manifest
    model, digest = entry.source()
    own_digest = {key: node[key] for key in ("sha256", "sha384") if node.get(key) is not None}
    rest = {key: value for key, value in node.items() if key not in ("model", "sha256", "sha384")}
    merged: dict[str, Any] = {"model": model, **(own_digest or digest), **rest}
    own = node.get("task")
    kind = own.get("type") if isinstance(own, dict) else None
    if entry.head is None and kind is None:
        heads = [f"{PREFIX}{manifest.name}/{head}" for head in manifest.heads]
        raise BadInputError(
            f"{manifest.name} has several heads", f"write {' or '.join(heads)}: one node each, or give a task"
        )
    head = None if entry.head is None else manifest.heads[entry.head]
    fits = head is not None and kind in (None, head.task.type)
    if head is not None and fits and head.outputs:
        merged.setdefault("outputs", list(head.outputs))
    merged["input"] = _over(plain(manifest.input), node.get("input"))
    if manifest.crop is not None and node.get("parent") is not None:
        merged["crop"] = _over(plain(manifest.crop), node.get("crop"))
    if head is not None and fits:
        merged["task"] = _over(plain(head.task), own)
    return merged


def plain(spec: Strict | TaskSpec) -> dict[str, Any]:
    """Return a part of a manifest as a group file has it."""
    return spec.model_dump(mode="json", exclude_unset=True)


def _over(base: dict[str, Any], own: Any) -> Any:
    """Return `base`, overridden by the node's own keys; the check of the group refuses a value that is no map."""
    if own is None:
        return base
    return {**base, **own} if isinstance(own, dict) else own


def node_yaml(entry: ZooEntry) -> dict[str, Any]:
    """Return the complete node for a network."""
    node: dict[str, Any] = {"model": f"{PREFIX}{entry.manifest.name}"}
    if entry.manifest.crop is not None:
        node["parent"] = "PARENT"
    return merge(node, entry)
