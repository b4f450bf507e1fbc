"""``python -m benchmarks chaos --faults 1000 --seed 1``: faults on real processes, checks after each."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos import inside
from benchmarks.chaos.faults import KINDS, Fault, from_json, plan, to_json
from benchmarks.chaos.shrink import shrink

BEFORE = 16
"""Faults before a violation that may have to do with it."""
WHY = {
    "mounts": "needs Linux, root and unshare",
    "memory": "needs a writable memory cgroup",
    "clock": "needs a C compiler",
    "credentials": "needs --credentials",
}


def main(arguments: list[str] | None = None) -> None:
    """Parse the options and run."""
    chosen = _parser().parse_args(arguments)
    inside.enter("chaos", arguments if arguments is not None else sys.argv[2:])
    faults, left_out = _planned(chosen)
    print(f"{len(faults)} faults, seed {chosen.seed}")
    if chosen.plan:
        print(to_json(faults))
        return
    asyncio.run(_run(chosen, faults, left_out))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks chaos")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="", help="only these, by commas; - before one: all but those")
    parser.add_argument("--credentials", action="store_true", help="all by TLS, each part by the key of its role")
    parser.add_argument("--replay", type=Path, help="the faults of a file instead, as --plan prints them")
    parser.add_argument("--plan", action="store_true", help="print the faults and end")
    parser.add_argument("--minutes", type=float, default=600.0, help="no new fault after that")
    parser.add_argument("--shrink", type=float, default=10.0, help="minutes to spend on shorter sequences; 0: none")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/benchmarks/chaos.json"), help="its folder gets the logs, too"
    )
    return parser


def _planned(chosen: argparse.Namespace) -> tuple[tuple[Fault, ...], dict[str, str]]:
    """Return the faults, and by kind why it is left out."""
    from benchmarks.chaos.rig import abilities

    able = abilities() | ({"credentials"} if chosen.credentials else set())
    names = [word.strip() for word in chosen.kinds.split(",") if word.strip()]
    unknown = {name.removeprefix("-") for name in names} - KINDS.keys()
    if unknown:
        raise SystemExit(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    wanted = {name for name in names if not name.startswith("-")} or set(KINDS)
    wanted -= {name[1:] for name in names if name.startswith("-")}
    left_out = {name: WHY[need] for name in sorted(wanted) for need in KINDS[name].needs - able}
    if chosen.replay is not None:
        return from_json(chosen.replay.read_text()), {}
    return plan(chosen.seed, chosen.faults, wanted - left_out.keys()), left_out


async def _run(chosen: argparse.Namespace, faults: Sequence[Fault], left_out: dict[str, str]) -> None:
    from benchmarks.chaos.report import as_json, table
    from benchmarks.chaos.run import Run

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().call_later(60 * chosen.minutes, stop.set)
    run = Run(faults, chosen.seed, stop, chosen.credentials, chosen.out.parent / "chaos-logs")
    try:
        await run.run()
    finally:
        found = as_json(run.outcome, faults, None if chosen.replay else chosen.seed, left_out)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")
        print(table(found))
    end = time.monotonic() + 60 * chosen.shrink
    seen: set[str] = set()
    for number, violation in run.outcome.violations:
        about = f"{violation.what} after {faults[number].kind}"
        if about not in seen and time.monotonic() < end and not stop.is_set() and violation.what != "growth":
            seen.add(about)
            await _shrunk(faults[max(0, number - BEFORE) : number + 1], violation.what, about, chosen, end, stop)


async def _shrunk(
    failing: Sequence[Fault], what: str, about: str, chosen: argparse.Namespace, end: float, stop: asyncio.Event
) -> None:
    """Run shorter sequences until none fails or the time is over; write the shortest that did."""
    from benchmarks.chaos.run import Run

    search, best, sent = shrink(failing, 100), tuple(failing), None
    try:
        while time.monotonic() < end and not stop.is_set():
            tried = search.send(sent)  # type: ignore[arg-type]  # None starts it
            outcome = await Run(tried, chosen.seed, stop, chosen.credentials).run()
            sent = any(one.what == what for _, one in outcome.violations)
            best = tried if sent else best
            print(f"{about}: {len(tried)} faults, {'fails too' if sent else 'holds'}", flush=True)
    except StopIteration as done:
        best = done.value
    place = chosen.out.parent / f"chaos-{about.replace(' ', '-')}.json"
    place.write_text(to_json(best))
    print(f"{about}: shortest of those tried: {'; '.join(map(str, best))}")
    print(f"  again: python -m benchmarks chaos --replay {place}", flush=True)


if __name__ == "__main__":
    main()
