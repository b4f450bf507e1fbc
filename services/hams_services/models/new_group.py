"""Writes a group file for networks that were inspected. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from hams_services.models.groups import PREFIX, merge
from hams_services.models.inspect import Inspection
from hams_services.models.manifest import SERVICES, find_entry, zoo
from hams_services.models.node_text import LONG, Lines, name_of, node_lines
from hams_shared.errors import BadInputError
from hams_shared.group.input_sources import suggestion
from hams_shared.group.source_kind import source_kind

NODE_NAMES = {"classification": "class", "expectation": "value", "regression": "value", "embedding": "who"}
"""Names for nodes by their task; others are called as it is."""
CHECK = (
    "Check it with a picture whose answer you know: hams-ctl infer GROUP PHOTO. Where it finds nothing, or little, "
    "exchange rgb and bgr, then try scale [255], the mean and scale of the training, or neither."
)
CROPS: Mapping[str, dict[str, Any]] = {"landmarks": {"enlarge": 1.25, "square": True}, "text": {"enlarge": 1.1}}
"""Crops of children by task."""


@dataclass(frozen=True)
class NewNode:
    """A node to be written."""

    name: str
    node: Mapping[str, Any]
    remarks: Mapping[str, Sequence[str]]
    """Comments by the key that they stand above."""
    detects: bool
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Lists that stand in files of their own: name → lines."""
    guessed: bool = False
    """Whether something of its input is a guess."""

    def lines(self) -> list[str]:
        """Return it as text, indented as below ``nodes:``."""
        return node_lines(self.name, self.node, self.remarks)


def chosen(found: Inspection, task: str | None) -> dict[str, Any]:
    """Return the likeliest fit, or that of `task`. Raises BadInputError: there is none such."""
    if not found.fits:
        names = ", ".join(one["name"] for one in found.facts["inputs"])
        raise BadInputError(f"{found.path.name} takes no image: its inputs are {names}", "a node needs an image input")
    for fit in found.fits:
        if task in (None, fit["type"]):
            return fit
    fits = ", ".join(one["type"] for one in found.fits)
    raise BadInputError(f"task {task} does not fit the outputs of {found.path.name}", f"these do: {fits}")


def new_node(
    found: Inspection, task: str | None = None, parent: str | None = None, labels: Sequence[str] = (), prefix: str = ""
) -> NewNode:
    """Return the node for a network; of the zoo's own files as the zoo has them.

    Args:
        found: the network.
        task: its task; None: the likeliest.
        parent: the node whose objects it looks at.
        labels: names of its classes.
        prefix: in front of the names of files that its lists go to.

    Raises:
        BadInputError: the task does not fit, or has another number of labels.
    """
    if task is None and not labels and (own := _of_zoo(found, parent)) is not None:
        return own
    fit = chosen(found, task)
    params = dict(fit["params"].items())
    stand_ins = dict(fit["stand_ins"])
    if labels:
        params["labels"] = _with(fit, labels)
        stand_ins.pop("labels", None)
    name = _name(fit, params)
    params, files = _without_long(params, f"{prefix}{name}")
    crop = CROPS.get(fit["type"], {}) if parent else {}
    node = {
        **found.source,
        **({"parent": parent} if parent else {}),
        "input": fit["input"],
        **({"inputs": found.feeds} if found.feeds else {}),
        **({"crop": crop} if crop else {}),
        "task": {"type": fit["type"], **params},
    }
    remarks = _remarks(found, fit, stand_ins, parent is not None)
    return NewNode(name, node, remarks, fit["detects"], files, bool(fit["guessed"]))


def _remarks(
    found: Inspection, fit: Mapping[str, Any], stand_ins: Mapping[str, str], child: bool
) -> dict[str, list[str]]:
    """Return what the comments above a node's keys say."""
    known = {found.facts.get("image"), *found.feeds}
    unfed = [suggestion(one["name"], child) for one in found.facts["inputs"] if one["name"] not in known]
    fed = [f"Name what feeds each further input under `inputs:`: {'; '.join(unfed)}."] if unfed else []
    return {
        "input": [*fed, *fit["stated"], *(f"A guess: {text}." for text in fit["guessed"])],
        "inputs": ["A guess: what inputs of such names take."],
        "task": [f"{text[:1].upper()}{text[1:]}." for text in stand_ins.values()],
    }


def check_head(source: str, task: str | None) -> None:
    """Raise BadInputError: `source` is a network of the zoo with several heads, and neither head nor task is given."""
    if source.startswith(PREFIX):
        merge({"model": source, **({"task": {"type": task}} if task else {})}, find_entry(source, zoo()))


def _of_zoo(found: Inspection, parent: str | None) -> NewNode | None:
    """Return the node of a network that is the zoo's, by its file or its name; None where no head of several is named.

    A name of the zoo counts as it was given, with its head and variant.
    """
    model = found.source["model"]
    certain = model.removeprefix(PREFIX) if model.startswith(PREFIX) else found.zoo
    known = certain or found.alike
    entry = find_entry(f"{PREFIX}{known}", zoo()) if known else None
    if entry is None or entry.head is None:
        return None
    node = merge({"model": f"{PREFIX}{known}", **({"parent": parent} if parent else {})}, entry)
    kind = entry.manifest.heads[entry.head].task.type
    fit = next(
        (fit for fit in found.fits if fit["type"] == kind and fit["input"]["size"] == node["input"]["size"]), None
    )
    if not certain and fit is None:
        return None  # the name is all that they share
    detects = fit["detects"] if fit is not None else entry.manifest.crop is None
    own = {
        **found.source,
        **{key: one for key, one in node.items() if one and key not in ("model", "sha256", "sha384")},
    }
    if fit is not None:  # another precision may have another layout
        kept = {key: value for key, value in node["input"].items() if key not in ("layout", "dtype")}
        own["input"] = {**kept, **{key: fit["input"][key] for key in ("layout", "dtype") if key in fit["input"]}}
    what = f"This file is zoo:{known}" if certain else f"A guess: by its name this is zoo:{known} in another precision"
    whole = entry.manifest.crop is None
    name = (
        SERVICES[entry.manifest.service].removesuffix("s") if whole else _name({"type": kind, "detects": detects}, {})
    )
    return NewNode(name, own, {"model": [f"{what}; input and task are the zoo's."]}, detects, guessed=not certain)


def _name(fit: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    if not fit["detects"]:
        return NODE_NAMES.get(fit["type"], name_of(fit["type"]))
    labels = params.get("labels") or ([params["label"]] if "label" in params else [])
    names = list(labels.values()) if isinstance(labels, dict) else list(labels)
    return name_of(names[0], "object") if len(names) == 1 else "object"


def _with(fit: Mapping[str, Any], labels: Sequence[str]) -> Any:
    """Return `labels` as the task takes them. Raises BadInputError: it takes none, or another number."""
    own = fit["params"].get("labels")
    if own is None:
        raise BadInputError(f"task {fit['type']} has no labels", "leave --labels out, and edit the written file")
    if isinstance(own, dict):
        return dict(enumerate(labels, 1))
    if len(labels) != len(own):
        raise BadInputError(
            f"the file of labels has {len(labels)} lines, and the network has {len(own)} classes",
            "one label a line, in the order of the classes",
        )
    if len(set(labels)) != len(labels):
        raise BadInputError("a label is there twice", "each class needs a name of its own")
    return list(labels)


def _without_long(params: Mapping[str, Any], stem: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return parameters whose long lists are in files, and these files."""
    found, files = dict(params), {}
    for key, value in params.items():
        if isinstance(value, list) and len(value) > LONG and all(isinstance(one, str) for one in value):
            name = f"{stem}-{key}.txt"
            found[key] = Lines(name)
            files[name] = value
    return found, files


def renamed(node: NewNode, name: str) -> NewNode:
    """Return the node under another name."""
    return replace(node, name=name)


def check_lines(nodes: Sequence[str]) -> list[str]:
    """Return what to do about guesses, for the head of a group file."""
    listed = f"{', '.join(nodes[:-1])} and {nodes[-1]} take their" if len(nodes) > 1 else f"{nodes[0]} takes its"
    return textwrap.wrap(f"How {listed} images is a guess. {CHECK}", 110, break_on_hyphens=False)


def stream_lines(source: str | None, name: str) -> list[str]:
    """Return the lines of ``streams:`` for a video, a folder, or a camera; None: how to add one."""
    if source is None:
        return [
            "# A stream feeds the group; single pictures can be sent without one: hams-ctl infer GROUP PHOTO",
            "# streams:",
            "#   door: {source: rtsp://user:password@camera.example/stream}   # or camera:0, a video",
        ]
    if source_kind(source) != "file":
        return ["streams:", f"  {name}:", f"    source: {_scalar(source)}"]
    return [
        "streams:",
        "  # In real time, as a camera, again and again. For each frame once: mode: lossless, pace: max",
        f"  {name}:",
        f"    source: {_scalar(source)}",
        "    loop: true",
    ]


def _scalar(text: str) -> str:
    return str(yaml.safe_dump(text, allow_unicode=True, width=10_000)).removesuffix("\n").removesuffix("\n...")


def group_text(name: str, nodes: Sequence[NewNode], streams: Sequence[str], head: Sequence[str] = ()) -> str:
    """Return a group file. The first node sees the whole frame, the others its objects."""
    lines = [*(f"# {line}".rstrip() for line in head), f"name: {name}", "nodes:"]
    for index, node in enumerate(nodes):
        lines += [*([""] if index else []), *node.lines()]
        if index == 0 and node.detects:
            lines += ["    # track: {motion: flow}   # follow its objects over frames: for counts, zones and events"]
        elif index and len(nodes[0].node["task"].get("labels", ())) > 1:
            lines += ["    # crop: {labels: [LABEL]}   # only these of the objects"]
    return "\n".join([*lines, "", *streams]) + "\n"
