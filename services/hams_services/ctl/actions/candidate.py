"""What `hams-ctl candidate` does, and `deploy` with --shadow or --canary."""

from __future__ import annotations

import asyncio

from rich.table import Table
from rich.text import Text

from hams_services.ctl.console import err, out, print_json, with_bus
from hams_shared.bus import candidates
from hams_shared.bus.candidates import Trial
from hams_shared.bus.control import POLL_S, Control
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError
from hams_shared.wire.messages.candidate import ArmView, CandidateView
from hams_shared.wire.messages.group import GroupRecord

SEEN_S = 5.0
"""How long the pipeline may take to report a candidate that serves, s."""


async def as_candidate(control: Control, record: GroupRecord, trial: Trial) -> GroupRecord:
    """The record of a group file as that of a candidate for the group of its name. Raises as `candidates` does."""
    serving = await candidates.serving_record(control, record.spec.name)
    if record.spec.streams and record.spec.streams != serving.spec.streams:
        text = f"group {record.spec.name}: the streams in the file are not used: those that play now stay"
        err.print(text, style="yellow", soft_wrap=True)
    return candidates.as_candidate(record, serving, trial)


async def until_seen(control: Control, record: GroupRecord) -> None:
    """Wait until the pipeline reports a candidate; warn when it does not, or cannot."""
    loop = asyncio.get_running_loop()
    end, known = loop.time() + SEEN_S, True
    try:
        while loop.time() < end:
            found = (await control.streams()).candidates
            known = found is not None
            if any(one.group == record.spec.name and one.deployed_at == record.deployed_at for one in found or ()):
                return
            await asyncio.sleep(POLL_S)
        why = "does not report it yet" if known else "is of a version that knows no candidates: update it"
    except NotFoundError as error:
        why = f"does not answer: {error}"
    err.print(f"candidate {record.spec.name} gets no frames: the pipeline {why}", style="yellow", soft_wrap=True)


def status(group: str | None, json: bool, nats: str | None, debug: bool) -> None:
    """Print what the pipeline has seen of candidates."""

    async def job(bus: Bus) -> None:
        control = Control(bus)
        found = (await control.streams()).candidates
        if found is None:
            raise NotFoundError("the pipeline is of a version that knows no candidates", "update it")
        shown = [one for one in found if group in (None, one.of)]
        if group is not None and not shown:
            raise NotFoundError(f"group {group} has no candidate", "hams-ctl deploy FILE --shadow 10% makes one")
        if json:
            print_json([one.model_dump(mode="json") for one in shown])
            return
        for number, one in enumerate(shown):
            if number:
                out.print()
            show(one)
        if not shown:
            out.print("there is no candidate: hams-ctl deploy FILE --shadow 10%")

    with_bus(job, nats, debug)


def promote(group: str, nats: str | None, debug: bool) -> None:
    """Let a candidate serve."""

    async def job(bus: Bus) -> None:
        await candidates.promote(Control(bus), group)
        out.print(f"the candidate for group {group} is promoted: it serves from now on; see `hams-ctl status`")

    with_bus(job, nats, debug)


def drop(group: str, nats: str | None, debug: bool) -> None:
    """Remove a candidate."""

    async def job(bus: Bus) -> None:
        await candidates.drop(Control(bus), group)
        out.print(f"the candidate for group {group} is dropped; what serves goes on")

    with_bus(job, nats, debug)


def percent(share: float) -> str:
    """Return a share of the frames as people write it: 10%, 2.5%."""
    return f"{100 * share:.3g}%"


def in_a_line(one: CandidateView) -> str:
    """A candidate in one line, for `status`."""
    seen = "" if one.agreement is None else f", agreement {one.agreement:.3f}"
    times = (
        f", p95 {one.candidate.latency.p95_ms:.0f} against {one.serving.latency.p95_ms:.0f} ms" if one.frames else ""
    )
    state = one.state if not one.text else f"{one.state} ({one.text})"
    return f"{one.of}: {one.mode} of {percent(one.share)} {state}: {one.frames} frames{seen}{times}"


def show(one: CandidateView) -> None:
    """Print one candidate."""
    share = f"{percent(one.share)} of the frames"
    out.print(Text.assemble("candidate for ", (one.of, "bold"), f": {one.mode} of {share}, {one.state}"))
    if one.text:
        out.print(Text(f"  {one.text}", style="yellow" if one.state == "waiting" else ""))
    if one.mode == "shadow":
        agreed = "not known yet" if one.agreement is None else f"{one.agreement:.4f}"
        each = ", ".join(f"{node} {value:.4f}" for node, value in one.nodes.items())
        out.print(Text(f"  agreement {agreed}" + (f" ({each})" if len(one.nodes) > 1 else "")))
        if one.not_compared:
            out.print(Text(f"  not compared, only one of the two has them: {', '.join(one.not_compared)}", style="dim"))
    if one.rule:
        then = "promoted" if one.promote == "auto" else "left to you"
        text = f"  rule, after {one.after} frames: {one.rule} (kept: it is {then}; broken: dropped)"
        out.print(Text(text))
    out.print(_times(one))
    out.print(_streams(one))


def _times(one: CandidateView) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for name in ("ms", "latency p50", "p95", "p99", "work p50", "p95", "p99"):
        table.add_column(name, justify="left" if name == "ms" else "right")
    for name, arm in (("serves", one.serving), ("candidate", one.candidate)):
        table.add_row(name, *_numbers(arm))
    return table


def _numbers(arm: ArmView) -> list[str]:
    return [f"{value:.1f}" for q in (arm.latency, arm.work) for value in (q.p50_ms, q.p95_ms, q.p99_ms)]


def _streams(one: CandidateView) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    shadow = one.mode == "shadow"
    for name in ("stream", "chosen", "skipped", "frames", "failed", *(("lost", "unpaired") if shadow else ())):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for of in one.streams:
        more = [_counted(of.dropped), str(of.unpaired)] if shadow else []
        table.add_row(of.stream, str(of.chosen), str(of.skipped), str(of.frames), _counted(of.failed), *more)
    return table


def _counted(lost: dict[str, int]) -> str:
    return f"{sum(lost.values())}" + (f" ({', '.join(sorted(lost))})" if lost else "")
