"""What `hams-ctl models pull` and `verify` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from hams_services.ctl.actions.models import of_service, service_named
from hams_services.ctl.console import err, out, print_json, run_sync
from hams_services.ctl.progress import Steps, steps
from hams_services.models.files import mib
from hams_services.models.manifest import Service, ZooEntry, find_entry, zoo
from hams_services.models.pull import check_base, places, pull
from hams_services.models.verify import Checked, verify
from hams_shared.errors import BadInputError, HamsError, from_wire
from hams_shared.runtime.process import cache_folder


def pull_models(names: list[str], all_: bool, service: str | None, base: str | None, json: bool, debug: bool) -> None:
    """Bring networks into the cache."""

    def main() -> None:
        entries = _wanted(names, all_, service_named(service))
        mirror = check_base(base) if base is not None else None
        failures: list[HamsError] = []
        answers: list[dict[str, Any]] = []
        with steps(bytes_=True) as progress:
            for entry in entries:
                answer = _one(entry, mirror, progress, failures)
                answers.append(answer)
                if not json:
                    _say(answer)
        if json:
            print_json(answers)
        elif len(entries) > 1:
            good = len(entries) - len(failures)
            out.print(f"{good} of {len(entries)} networks are in {cache_folder()}")
        if failures:
            raise typer.Exit(failures[0].exit_code)

    run_sync(main, debug, stopped="stopped: what has arrived stays, and pull goes on with it")


def _wanted(names: list[str], everything: bool, service: Service | None) -> list[ZooEntry]:
    """Return what to pull. Raises BadInputError: no such network, or nothing is asked for."""
    if names:
        if everything or service is not None:
            raise BadInputError("give names, or --all, or --service")
        chosen = {entry.label: entry for entry in (find_entry(name, zoo()) for name in names)}
        return list(chosen.values())
    if not everything and service is None:
        raise BadInputError("nothing to pull", "give names, --service F, or --all; `hams-ctl models list` shows them")
    return [ZooEntry(each, each.variant, None) for each in of_service(service)]


def _one(entry: ZooEntry, base: str | None, progress: Steps, failures: list[HamsError]) -> dict[str, Any]:
    """Pull one network; an error is told, and the next one's turn comes."""

    def told(done: int, total: int) -> None:
        progress(entry.label, done, total)

    answer: dict[str, Any] = {
        "name": entry.manifest.name,
        "variant": entry.variant,
        "size": entry.manifest.size(entry.variant),
        "path": str(places(entry, cache_folder())[0]),
    }
    try:
        fetched = pull(entry, cache_folder(), base, told)
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


def _say(answer: Mapping[str, Any]) -> None:
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
            _summary(cache, found)
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


def _summary(cache: Path, found: list[Checked]) -> None:
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
