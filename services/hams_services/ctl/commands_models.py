"""`hams-ctl models list`, `show`, `pull` and `verify`: the zoo."""

from __future__ import annotations

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
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
        padding=(0, 2, 0, 0),
    )
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    table.add_column("source", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("cache", no_wrap=True)
    for each in manifests:
        main = each.variants[each.variant][0]
        table.add_row(
            each.name + (f"/{{{','.join(each.heads)}}}" if len(each.heads) > 1 else ""),
            each.what,
            main.kind,
            mib(each.size(each.variant)),
            " ".join(each.variants),
            each.licence,
            _cache_cell(each),
        )
    return table


def _cache_cell(manifest: Manifest) -> Text:
    """Say of which variants the files are there."""
    cell = Text()
    for variant in manifest.variants:
        found, done = state(Choice(manifest, variant, None), cache_folder())
        if found != "absent":
            word = "yes" if len(manifest.variants) == 1 else variant
            part = "" if found == "cached" else f" {100 * done // manifest.size(variant)} %"
            cell.append(
                f"{' ' if cell else ''}{word if found == 'cached' or len(manifest.variants) > 1 else ''}{part}",
                _STYLE[found],
            )
    return cell or Text("–", style="dim")


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
        _facts(choice.manifest)
        suffix = f"@{choice.variant}" if choice.variant != choice.manifest.variant else ""
        crop = choice.manifest.crop is not None
        if crop:
            out.print("\n[dim]# in a group file, below `nodes:`; PARENT is the node whose objects it looks at[/dim]")
        else:
            out.print("\n[dim]# in a group file, below `nodes:`[/dim]")
        for node in _nodes(choice):
            head = f"/{node}" if len(choice.manifest.heads) > 1 else ""
            short = {"model": f"zoo:{choice.manifest.name}{head}{suffix}", **({"parent": "PARENT"} if crop else {})}
            _paste({node: short})
        out.print("\n[dim]# the same, written out: each key above may be followed by any of these[/dim]")
        for node, each in _nodes(choice).items():
            _paste({node: node_yaml(each)})

    directly(main, debug)


def _nodes(choice: Choice) -> dict[str, Choice]:
    """Return the nodes that stand for a choice: one for each head, unless one was chosen."""
    heads = [choice.head] if choice.head is not None else list(choice.manifest.heads)
    single = len(choice.manifest.heads) == 1
    word = {"F": "face", "P": "person", "V": "vehicle"}[choice.manifest.service]
    kinds = {
        "classification": "class",
        "expectation": "value",
        "text": "text",
        "embedding": "who",
        "landmarks": "points",
    }

    def label(head: str) -> str:
        if not single:
            return head
        kind = choice.manifest.heads[head].task.type
        return word if choice.manifest.crop is None else kinds.get(kind, kind)

    return {label(head): Choice(choice.manifest, choice.variant, head) for head in heads}


def _facts(manifest: Manifest) -> None:
    """Print what is known, a line each."""
    out.print(f"[bold]{manifest.name}[/bold]: {escape(manifest.what)}")
    if manifest.note:
        out.print(escape(manifest.note), style="yellow", width=100)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    size = manifest.input
    table.add_row("service", f"{manifest.service} ({SERVICES[manifest.service]})")
    table.add_row("licence", escape(manifest.licence))
    table.add_row("home", escape(manifest.home))
    words = [f"{size.size[0]}×{size.size[1]} pixels", size.color, size.layout, size.dtype, size.fit]
    words += [
        f"{key} {' '.join(f'{v:g}' for v in values)}"
        for key, values in (("mean", size.mean), ("scale", size.scale))
        if values
    ]
    table.add_row("input", ", ".join(words))
    for name, head in manifest.heads.items():
        table.add_row("task" if len(manifest.heads) == 1 else f"/{name}", head.task.type)
    for variant, files in manifest.variants.items():
        choice = Choice(manifest, variant, None)
        found, done = state(choice, cache_folder())
        where = {
            "cached": f"in the cache: {places(choice, cache_folder())[0].parent}",
            "part": f"{mib(done)} of it in the cache",
            "absent": "not in the cache",
        }[found]
        table.add_row(variant, Text.assemble(f"{mib(manifest.size(variant))}, ", (where, _STYLE[found])))
        for file in files:
            table.add_row("", escape(file.source))
            table.add_row("", f"[dim]{file.size} bytes, {'SHA-256' if file.sha256 else 'SHA-384'} {file.digest}[/dim]")
    out.print(table)


class _Lists(yaml.SafeDumper):
    """Lists of plain values in one line, as people write them."""


_Lists.add_representer(
    list,
    lambda dumper, value: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", value, flow_style=not any(isinstance(each, dict) for each in value)
    ),
)


def _paste(node: Mapping[str, Any]) -> None:
    """Print YAML that can be pasted: no wrapping by the console, two spaces of indent as below `nodes:`."""
    text = yaml.dump(dict(node), Dumper=_Lists, sort_keys=False, allow_unicode=True, width=110)
    for line in text.splitlines():
        out.print(f"  {line}", markup=False, soft_wrap=True)


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

    Of a network with several variants the first is meant. A mirror has its files as NAME/VARIANT/FILE, NAME/FILE,
    VARIANT/FILE or FILE.
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

    directly(main, debug)


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
