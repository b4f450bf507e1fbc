"""What `hams-ctl init-group` does."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from hams_services.ctl.actions.inspect import inspected, labels_of
from hams_services.ctl.console import err, out, run_sync
from hams_services.models import new_group
from hams_services.models.groups import load_group
from hams_services.models.inspect import Inspection
from hams_services.models.new_group import NewNode
from hams_services.models.node_text import name_of
from hams_shared.errors import BadInputError
from hams_shared.group.camera_url import redacted
from hams_shared.group.findings import NAME_PATTERN
from hams_shared.group.source_kind import check_source, source_kind
from hams_shared.runtime.files import replaced


def init_group(
    source: str,
    stream: str | None,
    file: Path | None,
    name: str | None,
    task: str | None,
    labels: Path | None,
    children: Sequence[str],
    force: bool,
    debug: bool,
) -> None:
    """Inspect the networks and write a group file for them."""

    def main() -> None:
        names = labels_of(labels) if labels is not None else []
        group = name or name_of(Path(source.partition("#")[0]).stem)
        if not re.fullmatch(NAME_PATTERN, group):
            raise BadInputError(
                f"{group!r} is no name for a group", "lower case letters, digits, - and _, a letter first"
            )
        target = file or Path(f"{group}.yaml")
        _check_target(target, force)
        new_group.check_head(source, task)
        for child in children:
            new_group.check_head(child, None)
        fed = None if stream is None else _stream(stream, target.parent)
        root = new_group.new_node(_here(inspected(source, None), target), task, labels=names, prefix=f"{target.stem}-")
        nodes = [root]
        for child in children:
            nodes.append(_child(child, nodes, target))
        text = new_group.group_text(
            group, nodes, new_group.stream_lines(fed, _stream_name(stream)), _head(target, group, nodes)
        )
        _write(target, text, nodes)
        _report(target, group, nodes, fed)

    run_sync(main, debug)


def _check_target(target: Path, force: bool) -> None:
    """Raise BadInputError before work is done."""
    if target.exists() and not force:
        raise BadInputError(f"{target} exists", "give another name with --out, or --force to replace it")
    if not target.parent.is_dir():
        raise BadInputError(f"{target.parent} is no folder", "create it first")


def _stream(source: str, folder: Path) -> str:
    """Return a stream's source as a group file in `folder` names it. Raises BadInputError: it is none."""
    try:
        check_source(source)
    except ValueError as error:
        raise BadInputError(f"{redacted(source)!r} is no stream: {error}") from None
    if source_kind(source) != "file" or ":" in source:
        return source
    path = Path(source).expanduser()
    if not path.exists() and not any(c in source for c in "*?["):
        raise BadInputError(f"{source} does not exist", "a video, a folder of images, rtsp://…, or camera:0")
    return _beside(path, folder)


def _beside(path: Path, folder: Path) -> str:
    """Return `path` relative to the folder of the group file where it is below it, else absolute."""
    whole, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)


def _stream_name(source: str | None) -> str:
    return "camera" if source is None or source_kind(source) != "file" else name_of(Path(source).stem, "video")


def _here(found: Inspection, target: Path) -> Inspection:
    """Return it with its file named as the group file finds it."""
    if Path(found.source["model"]).expanduser().exists():
        found.source["model"] = _beside(found.path, target.parent)
    return found


def _child(source: str, nodes: Sequence[NewNode], target: Path) -> NewNode:
    """Return a node for the objects of the first. Raises BadInputError: that one finds none."""
    root = nodes[0]
    if not root.detects:
        raise BadInputError(
            f"the first network has the task {root.node['task']['type']}, which finds no objects for --child",
            "name the detector first",
        )
    taken = {node.name for node in nodes}
    node = new_group.new_node(_here(inspected(source, None), target), None, root.name, prefix=f"{target.stem}-")
    number = 2
    while node.name in taken:
        node = new_group.renamed(node, f"{node.name.rstrip('0123456789')}{number}")
        number += 1
    return node


def _head(target: Path, group: str, nodes: Sequence[NewNode]) -> list[str]:
    guessed = [node.name for node in nodes if node.guessed]
    lines = [
        f"hams-ctl deploy {quote(str(target))}",
        f"hams-ctl results {group} --follow",
        f"hams-ctl infer {group} PHOTO.jpg --annotate out.png",
    ]
    if guessed:
        lines += ["", *new_group.check_lines(guessed)]
    return lines


def _write(target: Path, text: str, nodes: Sequence[NewNode]) -> None:
    """Write the group file and its lists, and read it as deploy does."""
    for node in nodes:
        for name, lines in node.files.items():
            with replaced(target.parent / name) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
    with replaced(target) as file:
        file.write(text.encode())
    load_group(target)


def _report(target: Path, group: str, nodes: Sequence[NewNode], stream: str | None) -> None:
    out.print(f"[bold]{target}[/bold] is written, with", markup=True)
    for node in nodes:
        parent = f", looks at the objects of {nodes[0].name}" if node is not nodes[0] else ""
        out.print(f"  {node.name}: {node.node['model']}, task {node.node['task']['type']}{parent}", soft_wrap=True)
    shown = stream if stream is None or stream.startswith("file:") else redacted(stream)
    out.print(f"  stream: {shown}" if shown else "  no stream: the file shows how to add one", soft_wrap=True)
    for node in nodes:
        inner = [*node.remarks.get("model", ()), *node.remarks.get("input", ())]
        for remark in (
            *(one for one in inner if one.startswith(("A guess", "The network has"))),
            *node.remarks.get("task", ()),
        ):
            err.print(f"{node.name}: {remark}", style="yellow", soft_wrap=True)
    out.print(f"next: hams-ctl deploy {quote(str(target))}      (hams-ctl up runs in another terminal)", soft_wrap=True)
    then = f"hams-ctl results {group} --follow" if stream else f"hams-ctl infer {group} PHOTO.jpg --annotate out.png"
    out.print(f"then: {then}", soft_wrap=True)
