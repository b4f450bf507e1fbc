"""What `hams-ctl models inspect` does."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hams_services.ctl.console import out, print_json, run_sync
from hams_services.ctl.progress import steps
from hams_services.models import new_group
from hams_services.models.files import mib
from hams_services.models.inspect import Inspection, find, inspect
from hams_services.models.manifest import names_of
from hams_services.models.new_group import NewNode
from hams_shared.runtime.process import cache_folder

MOST_OPERATORS = 8
MOST_METADATA = 12
MOST_TEXT = 160
"""Characters of one value of metadata that are shown."""
COUNTED = ("names", "character", "model_info:labels")
"""Metadata that is counted, not shown."""


def inspected(source: str, digest: str | None) -> Inspection:
    """Fetch and inspect a network, and show the progress. Raises as :func:`hams_services.models.inspect.inspect`."""
    with steps() as progress:
        path, named = find(source, digest, cache_folder(), lambda done, total: progress("fetch", done, total))
        return inspect(path, named, say=lambda what: progress(what, 0, 0))


def inspect_model(source: str, digest: str | None, task: str | None, json: bool, debug: bool) -> None:
    """Print what is in a network file, the tasks that fit, and a node to paste."""

    def main() -> None:
        found = inspected(source, digest)
        node = new_group.new_node(found, task) if found.fits else None
        if json:
            print_json({**found.plain(), "node": node and {"name": node.name, "text": "\n".join(node.lines()) + "\n"}})
            return
        _head(found)
        if node is None:
            first = found.facts["inputs"]
            out.print(f"\nNo node can use it: none of its {len(first)} inputs takes an image.", style="yellow")
            return
        _fits(found, node)
        _node(node)

    run_sync(main, debug)


def _head(found: Inspection) -> None:
    """Print the facts."""
    facts = found.facts
    size = sum(max(0, one) for one in facts["files"].values())
    made = f", by {_printable(facts['made_by'])}" if facts["made_by"] else ""
    parts = f"  {facts['format']}, {mib(size)}, {facts['parameters']:,} parameters{made}"
    out.print(Text.assemble((found.path.name, "bold"), parts))
    grid = _grid()
    if found.zoo:
        names = " or ".join(f"`model: {name}`" for name in names_of(found.zoo))
        grid.add_row("zoo", Text(f"this file is zoo:{found.zoo}: {names} is all a node needs", "green"))
    elif found.alike:
        grid.add_row("zoo", f"zoo:{found.alike} has this name, and another file")
    for kind in ("inputs", "outputs"):
        for index, one in enumerate(facts[kind]):
            grid.add_row(kind if index == 0 else "", _tensor(one, found, kind))
    if facts["versions"]:
        grid.add_row("versions", ", ".join(f"{key} {value}" for key, value in facts["versions"].items()))
    grid.add_row("operators", _operators(facts["operators"]))
    for index, (name, length) in enumerate(list(facts["files"].items())[1:]):
        text = Text(f"{name} is missing", "red") if length < 0 else Text(f"{name}, {mib(length)}")
        grid.add_row("files" if index == 0 else "", text)
    for index, (key, value) in enumerate(list(facts["metadata"].items())[:MOST_METADATA]):
        grid.add_row("metadata" if index == 0 else "", f"{_printable(key)}: {_value(key, value)}")
    if len(facts["metadata"]) > MOST_METADATA:
        grid.add_row("", f"… and {len(facts['metadata']) - MOST_METADATA} more: --json shows all")
    for index, run in enumerate(found.runs):
        grid.add_row("runs on" if index == 0 else "", _run(run))
    if found.refused:
        grid.add_row("deploy", Text(f"refuses it: {found.refused}", "red"))
    out.print(grid)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.pad_edge = True
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _tensor(one: dict[str, Any], found: Inspection, kind: str) -> str:
    """Return a tensor's name, shape and type; of an output also its shape as run, where the file leaves it open."""
    shape = _shape(one["shape"])
    if kind == "outputs":
        run = {each["name"]: _shape(each["shape"]) for each in found.outputs}
        shape += f" (as run {run[one['name']]})" if run.get(one["name"], shape) != shape else ""
    return f"{_printable(one['name'])}  {shape}  {one['dtype']}"


def _printable(text: str) -> str:
    """Return a text of a foreign file without what would control the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _shape(shape: list[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "a number"


def _operators(counts: dict[str, int]) -> str:
    listed = [f"{name} {count}" for name, count in list(counts.items())[:MOST_OPERATORS]]
    more = f", {len(counts) - MOST_OPERATORS} more kinds" if len(counts) > MOST_OPERATORS else ""
    return _printable(f"{sum(counts.values())}: {', '.join(listed)}{more}")


def _value(key: str, value: str) -> str:
    plain = _printable(" ".join(value.split()))
    if key in COUNTED:
        count = value.count("\n") + 1 if key == "character" else value.count(":") or value.count(",") + 1
        return f"{textwrap.shorten(plain, 60, placeholder=' …')} ({count})"
    return plain if len(plain) <= MOST_TEXT else f"{plain[:MOST_TEXT]} …"


def _run(run: dict[str, Any]) -> Text:
    if "error" in run:
        text = f"{run['error']}{f' ({hint})' if (hint := run.get('hint')) else ''}"
        return Text.assemble((f"{run['runtime']}: no, ", "yellow"), text)
    cores = run["cores"]
    return Text(f"{run['runtime']}, {run['ms']:.3g} ms an image on {cores} core{'s' if cores > 1 else ''}")


def _fits(found: Inspection, node: NewNode) -> None:
    out.print("\nTasks that fit, the likeliest first", style="bold")
    grid = _grid()
    for fit in found.fits:
        style = "bold green" if fit["type"] == node.node["task"]["type"] else "not dim"
        grid.add_row(Text(fit["type"], style), fit["reason"])
    out.print(grid)


def _node(node: NewNode) -> None:
    """Print the node; its lines are not wrapped, since people copy them."""
    out.print(
        "\n# In a group file, below `nodes:` (hams-ctl init-group writes a whole file)", style="dim", soft_wrap=True
    )
    for line in node.lines():
        out.print(line, soft_wrap=True, style="dim" if line.lstrip().startswith("#") else "")
    for name, lines in node.files.items():
        out.print(
            f"# {name}: a file with {len(lines)} lines beside it; init-group writes it", style="dim", soft_wrap=True
        )
    if not node.detects:
        out.print("    # parent: NODE   # whose objects it looks at; without it: the whole frame", style="dim")
    if node.guessed:
        out.print()
        out.print(new_group.CHECK, style="dim")


def labels_of(file: Path) -> list[str]:
    """Return the lines of a file of labels. Raises BadInputError."""
    from hams_shared.errors import BadInputError
    from hams_shared.group import strict_yaml

    try:
        lines = [line.strip() for line in strict_yaml.read_text(file).splitlines()]
    except strict_yaml.StrictYamlError as error:
        raise BadInputError(f"the file of labels cannot be read: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        raise BadInputError(f"{file} is no list of labels: it has an empty line" if lines else f"{file} is empty")
    return lines
