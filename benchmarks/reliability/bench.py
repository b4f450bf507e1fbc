"""Kills parts of a serving system and times what follows: ``python -m benchmarks reliability [--kills 20]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.reliability.link import cut_link, possible
from benchmarks.reliability.rig import Rig
from benchmarks.reliability.watcher import Watcher, serving, states
from benchmarks.serving.cases import ROOT
from hams_client import connect
from hams_shared.bus.ask import pipeline_view
from hams_shared.wire.messages.scheduler import SchedulerView

PAUSE_S = 1.0
"""A killed scheduler or broker is started again after so long, as a supervisor would."""
DETECTED_S, RESUMED_S, CONVERGED_S = 2.0, 5.0, 10.0


def plan_of(view: SchedulerView) -> tuple[int, str]:
    """Epoch and placement in force."""
    [group] = view.groups
    assert group.active is not None
    return group.active.epoch, json.dumps(group.active.shares, sort_keys=True)


async def kill_agents(rig: Rig, watcher: Watcher, kills: int) -> list[dict[str, float]]:
    """Kill the agent that serves; another takes over."""
    rows = []
    for number in range(kills):
        victim = watcher.device
        unit = victim.rsplit(".", 1)[-1]
        killed = rig.kill(f"agent-{unit}")
        detected = await watcher.until_view(lambda v, u=unit: states(v).get(u) != "alive", "the loss")  # type: ignore[misc]
        elsewhere = await watcher.until(lambda v=victim: watcher.device != v, "another device")  # type: ignore[misc]
        rows.append({"detected_s": round(detected - killed, 3), "elsewhere_s": round(elsewhere - killed, 3)})
        print(f"agent {number + 1:2d}/{kills}: {rows[-1]}", flush=True)
        rig.start(f"agent-{unit}")
        await watcher.until_view(lambda v, u=unit: states(v).get(u) == "alive" and serving(v), "its return")  # type: ignore[misc]
        await watcher.steady()
    return rows


async def kill_schedulers(rig: Rig, watcher: Watcher, kills: int) -> list[dict[str, float]]:
    """Kill the leader; the other leads. The killed one is started again and stands by."""
    rows = []
    for number in range(kills):
        view = await watcher.view()
        assert view is not None
        assert view.leader is not None
        leader, before = view.leader, plan_of(view)
        name = next(n for n, p in rig.parts.items() if p.pid == leader.pid)
        killed = rig.kill(name)
        leads = await watcher.until_view(
            lambda v, h=leader.holder: v.leader is not None and v.leader.holder != h,  # type: ignore[misc]
            "another leader",
        )
        after = await watcher.view()
        assert after is not None
        times = [killed, *(at for at, _ in watcher.results if at > killed), time.monotonic()]
        gap = max(b - a for a, b in pairwise(times))
        rows.append(
            {
                "other_leads_s": round(leads - killed, 3),
                "longest_gap_of_results_s": round(gap, 3),
                "plan_kept": float(plan_of(after) == before),
            }
        )
        print(f"scheduler {number + 1:2d}/{kills}: {rows[-1]}", flush=True)
        rig.start(name)
        await asyncio.sleep(PAUSE_S)
        await watcher.steady()
    return rows


async def kill_brokers(rig: Rig, watcher: Watcher, kills: int) -> list[dict[str, float]]:
    """Kill the broker; start it again; results come again, under the same plan."""
    rows = []
    for number in range(kills):
        view = await watcher.view()
        assert view is not None
        before = plan_of(view)
        rig.kill("broker")
        await asyncio.sleep(PAUSE_S)
        rig.start("broker")
        back = time.monotonic()
        resumed = await watcher.result_after(back)
        answered = await watcher.until_view(serving, "the scheduler")
        after = await watcher.view()
        assert after is not None
        rows.append(
            {
                "serving_s": round(resumed - back, 3),
                "scheduler_answers_s": round(answered - back, 3),
                "plan_kept": float(plan_of(after) == before),
            }
        )
        print(f"broker {number + 1:2d}/{kills}: {rows[-1]}", flush=True)
        await watcher.steady()
    return rows


async def ledger(watcher: Watcher) -> dict[str, Any]:
    """The stream's account."""
    [stream] = (await pipeline_view(watcher.hams.bus, timeout=5)).streams
    closed = stream.delivered + stream.gated + sum(stream.dropped.values()) + sum(stream.failed.values())
    return {
        "submitted": stream.submitted,
        "delivered": stream.delivered,
        "gated": stream.gated,
        "dropped": sum(stream.dropped.values()),
        "failed": sum(stream.failed.values()),
        "in_flight": stream.in_flight,
        "resent": stream.resent,
        "conserved": stream.submitted == closed + stream.in_flight,
    }


def doubled_and_missing(frames: list[int]) -> dict[str, int]:
    """What a subscriber got twice, or never."""
    got = set(frames)
    return {"doubled": len(frames) - len(got), "missing": max(got) - min(got) + 1 - len(got), "results": len(frames)}


async def run(kills: int, others: int) -> dict[str, Any]:
    """All of it, in one system."""
    with tempfile.TemporaryDirectory() as scratch, Rig(Path(scratch)) as rig:
        async with AsyncExitStack() as stack:
            hams = await stack.enter_async_context(connect(rig.url))
            watcher = Watcher(hams)
            collecting = asyncio.create_task(watcher.collect())
            stack.callback(collecting.cancel)
            await watcher.until_view(lambda v: list(states(v).values()).count("alive") == 2, "two devices")
            await asyncio.to_thread(rig.ctl, "deploy", str(rig.group_file()))
            await watcher.until(lambda: len(watcher.results) >= 20, "the first results")
            found: dict[str, Any] = {"agent": await kill_agents(rig, watcher, kills)}
            found["frames over agent kills"] = doubled_and_missing([r.frame for _, r in watcher.results])
            found["ledger after agent kills"] = await ledger(watcher)
            found["scheduler"] = await kill_schedulers(rig, watcher, others)
            found["frames over scheduler kills"] = doubled_and_missing([r.frame for _, r in watcher.results])
            found["broker"] = await kill_brokers(rig, watcher, others)
            found["frames over broker kills"] = doubled_and_missing([r.frame for _, r in watcher.results])
            epochs = [int(r.data["epoch"]) for _, r in watcher.results]
            found["epochs only grow"] = epochs == sorted(epochs)
            owners: dict[int, set[str]] = {}
            for _, result in watcher.results:
                owners.setdefault(int(result.data["epoch"]), set()).add(str(result.nodes["light"]["device"]))
            found["one owner per node and epoch"] = all(len(one) == 1 for one in owners.values())
            found["ledger"] = await ledger(watcher)
            return found


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = ["| killed with -9 | times | measured | median | worst | bar |", "|---|---|---|---|---|---|"]
    for part, key, text, bar in (
        ("agent that serves", "detected_s", "loss detected", f"≤ {DETECTED_S:g} s"),
        ("agent that serves", "elsewhere_s", "its nodes serve elsewhere", f"≤ {RESUMED_S:g} s + load"),
        ("leading scheduler", "other_leads_s", "the other leads", f"≤ {RESUMED_S:g} s"),
        ("leading scheduler", "longest_gap_of_results_s", "longest pause between two results", "serving goes on"),
        ("broker", "serving_s", "first result after its return", f"≤ {RESUMED_S:g} s"),
        ("broker", "scheduler_answers_s", "scheduler answers after its return", f"≤ {RESUMED_S:g} s"),
    ):
        values = [row[key] for row in found[part.split()[-1] if part == "leading scheduler" else part.split()[0]]]
        lines.append(
            f"| {part} | {len(values)} | {text} | {statistics.median(values):.2f} s | {max(values):.2f} s | {bar} |"
        )
    for key, text, bar in (
        ("replaced_s", "its nodes serve elsewhere", f"≤ {RESUMED_S:g} s + load"),
        ("converged_s", "all as before after it is healed", f"≤ {CONVERGED_S:g} s"),
    ):
        values = [row[key] for row in found.get("link", [])]
        if values:
            lines.append(
                f"| link to the far box (cut 10 s) | {len(values)} | {text} | {statistics.median(values):.2f} s"
                f" | {max(values):.2f} s | {bar} |"
            )
    kept = all(row["plan_kept"] for row in (*found["scheduler"], *found["broker"]))
    over = found["frames over agent kills"]
    lines += [
        "",
        f"- frames of the lossless stream over the agent kills: {over['results']} results, {over['missing']} missing, "
        f"{over['doubled']} doubled",
        f"- ledger at the end: {found['ledger']}",
        f"- frames a subscriber saw over everything: {found['frames over broker kills']} (what the broker held in its "
        "hands when it died is lost to subscribers, not to the ledger)",
        f"- no plan lost over scheduler and broker kills: {kept}; epochs only grow: {found['epochs only grow']}; "
        f"one owner per node and epoch: {found['one owner per node and epoch']}",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks reliability [--kills 20]``."""
    parser = argparse.ArgumentParser(prog="benchmarks reliability")
    parser.add_argument("--kills", type=int, default=20, help="of agents; half as many of the others")
    parser.add_argument("--cuts", type=int, default=5, help="of the link to a second box (root only)")
    parser.add_argument("--only-link", action="store_true", help="keep the other figures of the last run")
    chosen = parser.parse_args(arguments)
    out = ROOT / "docs" / "benchmarks"
    if chosen.only_link:
        found = json.loads((out / "reliability.json").read_text())
    else:
        found = asyncio.run(run(chosen.kills, max(1, chosen.kills // 2)))
        (out / "reliability.json").write_text(json.dumps(found, indent=1) + "\n")
    if possible():
        found["link"] = asyncio.run(cut_link(chosen.cuts))
    else:
        print("NOT MEASURED: the link to a second box needs root and /dev/net/tun")
    (out / "reliability.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "reliability.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
