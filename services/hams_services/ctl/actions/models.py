"""What `hams-ctl models list`, `show`, `pull` and `verify` do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from hams_services.ctl.console import err, out, print_json, run_sync
from hams_services.ctl.progress import Steps, steps
from hams_services.ctl.tables import plain_table
from hams_services.models.files import mib
from hams_services.models.groups import node_yaml, plain
from hams_services.models.manifest import SERVICES, Manifest, Service, ZooEntry, find_entry, zoo
from hams_services.models.node_text import node_lines
from hams_services.models.pull import State, check_base, places, pull, state
from hams_services.models.verify_cache import Checked, verify
from hams_shared.errors import BadInputError, HamsError, from_wire
from hams_shared.runtime.process import cache_folder

_STYLE: dict[State, str] = {"cached": "green", "part": "yellow", "absent": "dim"}


def service_named(text: str | None) -> Service | None:
    """Return the service that --service names. Raises BadInputError."""
    if text is None:
        return None
    for service, what in SERVICES.items():
        if text.lower() in (service.lower(), what):
            return service
    raise BadInputError(f"there is no service {text!r}", "services: F faces, P persons, V vehicles")


def of_service(service: Service | None) -> list[Manifest]:
    """Return the networks of a service, or all."""
    return [each for each in zoo().values() if service in (None, each.service)]


def list_models(service: str | None, json: bool, debug: bool) -> None:
    """Print the networks of the zoo, and which of them are in the cache."""

    def main() -> None:
        found = of_service(service_named(service))
        if json:
            print_json([_as_json(each) for each in found])
            return
        for kind, what in SERVICES.items():
            of_kind = [each for each in found if each.service == kind]
            if of_kind:
                out.print(_table(f"Service {kind}: {what}", of_kind))
                out.print()
        out.print(f"In a group file: model: zoo:NAME.  Cache: {cache_folder()}", style="dim")

    run_sync(main, debug)


def _table(title: str, manifests: list[Manifest]) -> Table:
    """Return a table of networks; a narrow terminal gets fewer columns, since `show` has the rest."""
    width = out.width
    left_out = {"source", "weights", "licence"} if width < 100 else {"source", "weights"} if width < 120 else set()
    columns = [
        each for each in ("name", "what", "source", "size", "weights", "licence", "cache") if each not in left_out
    ]
    table = plain_table(title)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column == "size" else "left",
            no_wrap=column != "what",
            min_width=24 if column == "what" else None,
        )
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
    """Return which variants are in the cache."""
    several = len(manifest.variants) > 1
    words: list[Text] = []
    for variant in manifest.variants:
        found, done = state(ZooEntry(manifest, variant, None), cache_folder())
        if found == "cached":
            words.append(Text(variant if several else "yes", _STYLE[found]))
        elif found == "part":
            percent = f"{100 * done // manifest.size(variant)} %"
            words.append(Text(f"{variant} {percent}" if several else percent, _STYLE[found]))
    return Text(" ").join(words) if words else Text("–", "dim")


def _as_json(manifest: Manifest) -> dict[str, Any]:
    variants = {}
    for variant, files in manifest.variants.items():
        entry = ZooEntry(manifest, variant, None)
        found, done = state(entry, cache_folder())
        variants[variant] = {
            "size": manifest.size(variant),
            "cache": found,
            "cached_bytes": done,
            "path": str(places(entry, cache_folder())[0]),
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


def show(name: str, json: bool, debug: bool) -> None:
    """Print a network's manifest, and nodes to paste."""

    def main() -> None:
        entry = find_entry(name, zoo())
        if json:
            print_json({**_as_json(entry.manifest), "nodes": {n: node_yaml(c) for n, c in _nodes(entry).items()}})
            return
        _facts(entry)
        crop = entry.manifest.crop is not None
        parent = "; PARENT is the node whose objects it crops" if crop else ""
        out.print(f"\n# In a group file, below `nodes:`{parent}", style="dim")
        suffix = f"@{entry.variant}" if entry.variant != entry.manifest.variant else ""
        nodes = _nodes(entry)
        for node in nodes:
            head = f"/{node}" if len(entry.manifest.heads) > 1 else ""
            short = {"model": f"zoo:{entry.manifest.name}{head}{suffix}", **({"parent": "PARENT"} if crop else {})}
            _paste({node: short})
        out.print("\n# The same, written out; keys next to `model: zoo:` override these", style="dim")
        for node, each in nodes.items():
            _paste({node: node_yaml(each)})

    run_sync(main, debug)


_NODE_NAMES = {"classification": "class", "expectation": "value", "embedding": "who"}


def _nodes(entry: ZooEntry) -> dict[str, ZooEntry]:
    """Return the nodes that stand for an entry, by a name to suggest: one for each head, unless one was chosen."""
    manifest = entry.manifest
    if len(manifest.heads) > 1:
        heads = [entry.head] if entry.head is not None else list(manifest.heads)
        return {head: ZooEntry(manifest, entry.variant, head) for head in heads}
    if manifest.crop is None:
        return {SERVICES[manifest.service].removesuffix("s"): entry}
    kind = manifest.heads["all"].task.type
    return {_NODE_NAMES.get(kind, kind): entry}


def _facts(entry: ZooEntry) -> None:
    """Print the facts, a line each; lines that people may copy are not wrapped."""
    manifest, given = entry.manifest, entry.manifest.input
    out.print(Text.assemble((manifest.name, "bold"), f"  {manifest.what}"))
    if manifest.note:
        for line in textwrap.wrap(manifest.note, min(100, out.width - 2)):
            out.print(f"  {line}")
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
        one = ZooEntry(manifest, variant, None)
        found, done = state(one, cache_folder())
        where = {
            "cached": f"in the cache: {places(one, cache_folder())[0]}",
            "part": f"{mib(done)} of it in the cache",
            "absent": "not in the cache",
        }[found]
        _fact(variant, f"{mib(manifest.size(variant))}, {where}", _STYLE[found] if found != "absent" else "")
        if variant == entry.variant:
            for file in files:
                _fact("", file.source)
                _fact("", f"{file.size} bytes, {'SHA-256' if file.sha256 else 'SHA-384'} {file.digest}", "dim")
    others = [variant for variant in manifest.variants if variant != entry.variant]
    if others:
        _fact("", f"hams-ctl models show {manifest.name}@{others[0]} shows that variant's files", "dim")


def _fact(key: str, value: str, style: str = "") -> None:
    out.print(Text.assemble((f"  {key:<9}", "dim"), (value, style)), soft_wrap=True)


def _paste(node: Mapping[str, Any]) -> None:
    """Print YAML that can be pasted: no wrapping by the console."""
    for name, content in node.items():
        for line in node_lines(name, content):
            out.print(line, markup=False, soft_wrap=True)


def pull_models(names: list[str], all_: bool, service: str | None, base: str | None, json: bool, debug: bool) -> None:
    """Download networks into the cache."""

    def main() -> None:
        entries = _to_pull(names, all_, service_named(service))
        mirror = check_base(base) if base is not None else None
        failures: list[HamsError] = []
        answers: list[dict[str, Any]] = []
        with steps(bytes_=True) as progress:
            for entry in entries:
                answer = _pull(entry, mirror, progress, failures)
                answers.append(answer)
                if not json:
                    _print_pulled(answer)
        if json:
            print_json(answers)
        elif len(entries) > 1:
            good = len(entries) - len(failures)
            out.print(f"{good} of {len(entries)} networks are in {cache_folder()}")
        if failures:
            raise typer.Exit(failures[0].exit_code)

    run_sync(main, debug, stopped="stopped: the parts that arrived are kept; pull continues from there")


def _to_pull(names: list[str], everything: bool, service: Service | None) -> list[ZooEntry]:
    """Return what to pull. Raises BadInputError: no such network, or none is named."""
    if names:
        if everything or service is not None:
            raise BadInputError("give names, or --all, or --service")
        chosen = {entry.label: entry for entry in (find_entry(name, zoo()) for name in names)}
        return list(chosen.values())
    if not everything and service is None:
        raise BadInputError(
            "no network is named", "give names, --service F, or --all; `hams-ctl models list` shows them"
        )
    return [ZooEntry(each, each.variant, None) for each in of_service(service)]


def _pull(entry: ZooEntry, base: str | None, progress: Steps, failures: list[HamsError]) -> dict[str, Any]:
    """Pull one network and return how that ended; an error also goes to `failures`, and the next network follows."""

    answer: dict[str, Any] = {
        "name": entry.manifest.name,
        "variant": entry.variant,
        "size": entry.manifest.size(entry.variant),
        "path": str(places(entry, cache_folder())[0]),
    }
    try:
        fetched = pull(entry, cache_folder(), base, partial(progress, entry.label))
    except HamsError as error:
        failures.append(error)
        return {**answer, "state": "failed", "error": error.to_wire()}
    except OSError as error:
        wrapped = HamsError(f"cannot keep {entry.label}: {error.strerror}: {error.filename}", "is the cache writable?")
        failures.append(wrapped)
        return {**answer, "state": "failed", "error": wrapped.to_wire()}
    finally:
        progress.end(entry.label)
    return {**answer, "state": "fetched" if fetched else "cached"}


def _print_pulled(answer: Mapping[str, Any]) -> None:
    name = f"{answer['name']} {answer['variant']}"
    if answer["state"] == "failed":
        err.print(f"error: {name}: {from_wire(answer['error'])}", style="red", soft_wrap=True)
    else:
        word = "[green]fetched[/green]" if answer["state"] == "fetched" else "[dim]in the cache[/dim]"
        out.print(f"{word}: {name}, {mib(answer['size'])}", markup=True)


def verify_models(json: bool, debug: bool) -> None:
    """Read all files of the cache, and compare their digests."""

    def main() -> None:
        cache = cache_folder()
        with steps() as progress:
            found = list(verify(cache, dict(zoo()), lambda done, total: progress("verify", done, total)))
        bad = [each for each in found if each.verdict == "bad"]
        if json:
            print_json([_checked(each) for each in found])
        else:
            _print_checked(cache, found)
        if bad:
            raise typer.Exit(1)

    run_sync(main, debug)


def _checked(each: Checked) -> dict[str, Any]:
    return {
        "path": str(each.path),
        "size": each.size,
        "verdict": each.verdict,
        "why": each.why or None,
        "model": each.model or None,
    }


def _print_checked(cache: Path, found: list[Checked]) -> None:
    show: dict[str, Callable[[str], None]] = {
        "bad": lambda line: out.print(Text.assemble(("bad", "bold red"), f"   {line}"), soft_wrap=True),
        "part": lambda line: out.print(Text.assemble(("part", "yellow"), f"  {line}"), soft_wrap=True),
    }
    for each in found:
        if each.verdict != "good":
            of = f" ({each.model})" if each.model else ""
            show[each.verdict](f"{each.path}{of}: {each.why}")
    good = [each for each in found if each.verdict == "good"]
    total = mib(sum(each.size for each in good))
    out.print(Text.assemble(("good", "green"), f"  {len(good)} files, {total}, in {cache}"))
    bad = sum(each.verdict == "bad" for each in found)
    if bad:
        it, files = ("it", "file is") if bad == 1 else ("them", "files are")
        out.print(f"{bad} {files} bad: delete {it}, and `hams-ctl models pull` or deploy fetches {it} again")
