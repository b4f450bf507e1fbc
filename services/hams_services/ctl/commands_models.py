"""`hams-ctl models list`, `show`, `pull` and `verify`: the zoo."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from hams_services.ctl.console import directly, err, out, print_json, steps
from hams_services.ctl.options import Debug, Json
from hams_services.ctl.tables import plain_table
from hams_services.zoo.files import mib
from hams_services.zoo.groups import node_yaml, plain
from hams_services.zoo.manifest import SERVICES, Choice, Manifest, Service, choose, zoo
from hams_services.zoo.pull import State, check_base, places, pull, state
from hams_services.zoo.verify import Checked, verify
from hams_shared.errors import BadInputError, HamsError, from_wire
from hams_shared.process import cache_folder

models = typer.Typer(no_args_is_help=True, help="The zoo: networks that HAMS knows, by name.")

ModelService = Annotated[
    str | None, typer.Option("--service", "-s", help="Only those of F (faces), P (persons) or V (vehicles).")
]
_STYLE: dict[State, str] = {"cached": "green", "part": "yellow", "absent": "dim"}


def _service(text: str | None) -> Service | None:
    """Understand --service. Raises BadInputError."""
    if text is None:
        return None
    for service, what in SERVICES.items():
        if text.lower() in (service.lower(), what):
            return service
    raise BadInputError(f"there is no service {text!r}", "services: F faces, P persons, V vehicles")


def _of(service: Service | None) -> list[Manifest]:
    return [each for each in zoo().values() if service in (None, each.service)]


# list


@models.command("list")
def list_(service: ModelService = None, json: Json = False, debug: Debug = False) -> None:
    """List the networks of the zoo, and which of them are in the cache."""

    def main() -> None:
        found = _of(_service(service))
        if json:
            print_json([_as_json(each) for each in found])
            return
        for kind, what in SERVICES.items():
            of_kind = [each for each in found if each.service == kind]
            if of_kind:
                out.print(_table(f"Service {kind}: {what}", of_kind))
                out.print()
        out.print(f"[dim]In a group file: model: zoo:NAME.  Cache: {escape(str(cache_folder()))}[/dim]")

    directly(main, debug)


def _table(title: str, manifests: list[Manifest]) -> Table:
    """The networks; on a narrow terminal what can be looked up with `show` is left out."""
    width = out.width
    left_out = {"source", "weights", "licence"} if width < 100 else {"source", "weights"} if width < 120 else set()
    columns = [
        each for each in ("name", "what", "source", "size", "weights", "licence", "cache") if each not in left_out
    ]
    table = plain_table(title)
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=column != "what")
    for each in manifests:
        cells: dict[str, str | Text] = {
            "name": each.name,
            "what": each.what,
            "source": each.variants[each.variant][0].kind,
            "size": mib(each.size(each.variant)),
            "weights": " ".join(each.variants),
            "licence": each.licence,
            "cache": _cache_cell(each),
        }
        table.add_row(*(cells[column] for column in columns))
    return table


def _cache_cell(manifest: Manifest) -> Text:
    """Say of which variants the files are there."""
    several = len(manifest.variants) > 1
    words: list[Text] = []
    for variant in manifest.variants:
        found, done = state(Choice(manifest, variant, None), cache_folder())
        if found == "cached":
            words.append(Text(variant if several else "yes", _STYLE[found]))
        elif found == "part":
            percent = f"{100 * done // manifest.size(variant)} %"
            words.append(Text(f"{variant} {percent}" if several else percent, _STYLE[found]))
    return Text(" ").join(words) if words else Text("–", "dim")


def _as_json(manifest: Manifest) -> dict[str, Any]:
    variants = {}
    for variant, files in manifest.variants.items():
        choice = Choice(manifest, variant, None)
        found, done = state(choice, cache_folder())
        variants[variant] = {
            "size": manifest.size(variant),
            "cache": found,
            "cached_bytes": done,
            "path": str(places(choice, cache_folder())[0]),
            "files": [file.model_dump(mode="json", exclude_none=True) for file in files],
        }
    return {
        "name": manifest.name,
        "what": manifest.what,
        "service": manifest.service,
        "source": manifest.variants[manifest.variant][0].kind,
        "licence": manifest.licence,
        "home": manifest.home,
        "note": manifest.note,
        "variants": variants,
        "input": plain(manifest.input),
        "crop": plain(manifest.crop) if manifest.crop else None,
        "heads": {name: plain(head) for name, head in manifest.heads.items()},
    }


# show


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="NAME, NAME/HEAD, NAME@FP32, or NAME/HEAD@FP32.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what is known of a network, and the node to paste into a group file."""

    def main() -> None:
        choice = choose(name, zoo())
        if json:
            print_json({**_as_json(choice.manifest), "nodes": {n: node_yaml(c) for n, c in _nodes(choice).items()}})
            return
        _facts(choice)
        crop = choice.manifest.crop is not None
        parent = "; PARENT is the node whose objects it looks at" if crop else ""
        out.print(f"\n[dim]# In a group file, below `nodes:`{parent}[/dim]")
        suffix = f"@{choice.variant}" if choice.variant != choice.manifest.variant else ""
        nodes = _nodes(choice)
        for node in nodes:
            head = f"/{node}" if len(choice.manifest.heads) > 1 else ""
            short = {"model": f"zoo:{choice.manifest.name}{head}{suffix}", **({"parent": "PARENT"} if crop else {})}
            _paste({node: short})
        out.print("\n[dim]# The same, written out; what a node with zoo: says of its own comes before this[/dim]")
        for node, each in nodes.items():
            _paste({node: node_yaml(each)})

    directly(main, debug)


_NODE_NAMES = {"classification": "class", "expectation": "value", "embedding": "who"}


def _nodes(choice: Choice) -> dict[str, Choice]:
    """Return the nodes that stand for a choice, by a name to suggest: one for each head, unless one was chosen."""
    manifest = choice.manifest
    if len(manifest.heads) > 1:
        heads = [choice.head] if choice.head is not None else list(manifest.heads)
        return {head: Choice(manifest, choice.variant, head) for head in heads}
    if manifest.crop is None:
        return {SERVICES[manifest.service].removesuffix("s"): choice}
    kind = manifest.heads["all"].task.type
    return {_NODE_NAMES.get(kind, kind): choice}


def _facts(choice: Choice) -> None:
    """Print what is known, a line each; nothing is folded that someone may want to copy."""
    manifest, given = choice.manifest, choice.manifest.input
    out.print(f"[bold]{manifest.name}[/bold]  {escape(manifest.what)}")
    if manifest.note:
        for line in textwrap.wrap(manifest.note, 100):
            out.print(f"  {line}", markup=False)
    means = [("mean", given.mean), ("scale", given.scale)]
    words = [f"{given.size[0]}×{given.size[1]} pixels", given.color, given.layout, given.dtype, given.fit]
    words += [f"{key} {' '.join(f'{value:g}' for value in values)}" for key, values in means if values]
    tasks = {"" if len(manifest.heads) == 1 else f"{name}: ": head.task.type for name, head in manifest.heads.items()}
    _fact("service", f"{manifest.service} ({SERVICES[manifest.service]})")
    _fact("task", ", ".join(name + kind for name, kind in tasks.items()))
    _fact("input", ", ".join(words))
    _fact("licence", manifest.licence)
    _fact("home", manifest.home)
    for variant, files in manifest.variants.items():
        one = Choice(manifest, variant, None)
        found, done = state(one, cache_folder())
        where = {
            "cached": f"in the cache: {places(one, cache_folder())[0]}",
            "part": f"{mib(done)} of it in the cache",
            "absent": "not in the cache",
        }[found]
        _fact(variant, f"{mib(manifest.size(variant))}, {where}", _STYLE[found] if found != "absent" else "")
        if variant == choice.variant:
            for file in files:
                _fact("", file.source)
                _fact("", f"{file.size} bytes, {'SHA-256' if file.sha256 else 'SHA-384'} {file.digest}", "dim")
    others = [variant for variant in manifest.variants if variant != choice.variant]
    if others:
        _fact("", f"hams-ctl models show {manifest.name}@{others[0]} shows the other's files", "dim")


def _fact(key: str, value: str, style: str = "") -> None:
    out.print(Text.assemble((f"  {key:<9}", "dim"), (value, style)), soft_wrap=True)


class _Flow(yaml.SafeDumper):
    """Lists and small maps in one line, as people write them."""


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


def _map(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=len(str(value)) < 90)


_Flow.add_representer(list, _list)
_Flow.add_representer(dict, _map)


def _paste(node: Mapping[str, Any]) -> None:
    """Print YAML that can be pasted: no wrapping by the console, two spaces of indent as below `nodes:`."""
    for name, content in node.items():
        out.print(f"  {name}:", markup=False)
        for key, value in content.items():
            text = yaml.dump({key: value}, Dumper=_Flow, sort_keys=False, allow_unicode=True, width=100)
            if text.startswith("{"):
                text = f"{key}: {yaml.dump(value, Dumper=_Flow, sort_keys=False, allow_unicode=True, width=1000)}"
                text = text.removesuffix("...\n")
            for line in text.splitlines():
                out.print(f"    {line}", markup=False, soft_wrap=True)


# pull


@models.command("pull")
def pull_(
    names: Annotated[list[str] | None, typer.Argument(help="NAME, or NAME@FP32 for another variant.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All networks of the zoo.")] = False,
    service: ModelService = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|FOLDER",
            help="A mirror instead of the publishers; plain http and files are fine, the digests protect.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring networks into the cache; what is interrupted goes on where it was.

    Of a network with several variants the first is meant. A mirror has its files as NAME/VARIANT/FILE (below
    intel/ too), NAME/FILE, VARIANT/FILE or FILE; a folder may have wheels as well.
    """

    def main() -> None:
        choices = _wanted(names or [], all_, _service(service))
        mirror = check_base(base) if base is not None else None
        failures: list[HamsError] = []
        answers: list[dict[str, Any]] = []
        with _bars() as progress:
            for choice in choices:
                answer = _one(choice, mirror, progress, failures)
                answers.append(answer)
                if not json:
                    _say(answer)
        if json:
            print_json(answers)
        elif len(choices) > 1:
            good = len(choices) - len(failures)
            out.print(f"{good} of {len(choices)} networks are in {escape(str(cache_folder()))}")
        if failures:
            raise typer.Exit(failures[0].exit_code)

    directly(main, debug, stopped="stopped: what has arrived stays, and pull goes on with it")


def _wanted(names: list[str], everything: bool, service: Service | None) -> list[Choice]:
    """Return what to pull. Raises BadInputError: no such network, or nothing is asked for."""
    if names:
        if everything or service is not None:
            raise BadInputError("give names, or --all, or --service")
        chosen = {choice.label: choice for choice in (choose(name, zoo()) for name in names)}
        return list(chosen.values())
    if not everything and service is None:
        raise BadInputError("nothing to pull", "give names, --service F, or --all; `hams-ctl models list` shows them")
    return [Choice(each, each.variant, None) for each in _of(service)]


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _one(choice: Choice, base: str | None, progress: Progress, failures: list[HamsError]) -> dict[str, Any]:
    """Pull one network; an error is told, and the next one's turn comes."""
    task = progress.add_task(choice.label, total=None)

    def told(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total or None)

    answer: dict[str, Any] = {
        "name": choice.manifest.name,
        "variant": choice.variant,
        "size": choice.manifest.size(choice.variant),
        "path": str(places(choice, cache_folder())[0]),
    }
    try:
        fetched = pull(choice, cache_folder(), base, told)
    except HamsError as error:
        failures.append(error)
        return {**answer, "state": "failed", "error": error.to_wire()}
    except OSError as error:
        wrapped = HamsError(f"cannot keep {choice.label}: {error.strerror}: {error.filename}", "is the cache writable?")
        failures.append(wrapped)
        return {**answer, "state": "failed", "error": wrapped.to_wire()}
    finally:
        progress.remove_task(task)
    return {**answer, "state": "fetched" if fetched else "cached"}


def _say(answer: Mapping[str, Any]) -> None:
    name = f"{answer['name']} {answer['variant']}"
    if answer["state"] == "failed":
        err.print(f"[red]error[/red]: {name}: {escape(str(from_wire(answer['error'])))}", soft_wrap=True)
    else:
        word = "[green]fetched[/green]" if answer["state"] == "fetched" else "[dim]in the cache[/dim]"
        out.print(f"{word}: {name}, {mib(answer['size'])}")


# verify


@models.command("verify")
def verify_(json: Json = False, debug: Debug = False) -> None:
    """Read all files of the cache again and compare their digests; exit code 1 if one is bad."""

    def main() -> None:
        cache = cache_folder()
        with steps() as progress:
            found = list(verify(cache, dict(zoo()), lambda done, total: progress("verify", done, total)))
        bad = [each for each in found if each.verdict == "bad"]
        if json:
            print_json([_checked(each) for each in found])
        else:
            _summary(cache, found)
        if bad:
            raise typer.Exit(1)

    directly(main, debug)


def _checked(each: Checked) -> dict[str, Any]:
    return {
        "path": str(each.path),
        "size": each.size,
        "verdict": each.verdict,
        "why": each.why or None,
        "model": each.model or None,
    }


def _summary(cache: Path, found: list[Checked]) -> None:
    show: dict[str, Callable[[str], None]] = {
        "bad": lambda line: out.print(f"[bold red]bad[/bold red]   {line}", soft_wrap=True),
        "part": lambda line: out.print(f"[yellow]part[/yellow]  {line}", soft_wrap=True),
    }
    for each in found:
        if each.verdict != "good":
            of = f" ({each.model})" if each.model else ""
            show[each.verdict](escape(f"{each.path}{of}: {each.why}"))
    good = [each for each in found if each.verdict == "good"]
    total = mib(sum(each.size for each in good))
    out.print(f"[green]good[/green]  {len(good)} files, {total}, in {escape(str(cache))}")
    bad = sum(each.verdict == "bad" for each in found)
    if bad:
        it, files = ("it", "file is") if bad == 1 else ("them", "files are")
        out.print(f"{bad} {files} bad: delete {it}, and `hams-ctl models pull` or deploy fetches {it} again")
