"""``python -m benchmarks messages``: a million messages that nobody should send, as every role, to all parts."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time

from benchmarks.serving.cases import ROOT

sys.path.append(str(ROOT / "tests"))  # the world and the systems of the tests

from benchmarks.messages import broker, decoders, targets, world
from benchmarks.messages.samples import Samples
from benchmarks.messages.world import Outcome

WORLD_PART = 0.25
"""Of the messages, those that go to whole parts; the others go straight to what decodes them."""


def main(options: list[str]) -> None:
    """Run, print what was sent and found, add it to docs/benchmarks/messages.json; exit status 1 for any fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks messages")
    parser.add_argument("--messages", type=int, default=1_000_000, help="in process, of all roles together")
    parser.add_argument("--broker", type=int, default=5, help="on a real broker: of each role on each subject; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--role", action="append", help="only this role; repeat for more")
    given = parser.parse_args(options)
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger().addHandler(logging.NullHandler())
    roles = [role for role in targets.all_roles() if not given.role or role.user in given.role]
    began, outcomes, valid = time.monotonic(), list[Outcome](), Samples()
    for role in roles:
        outcome, valid = world.run(role, int(given.messages * WORLD_PART / len(roles)), given.seed, valid)
        outcomes.append(_printed("parts in process", outcome))
    outcomes.append(_printed("decoders", decoders.run(int(given.messages * (1 - WORLD_PART)), given.seed, valid)))
    real = broker.run(given.broker, given.seed, valid, [role.user for role in roles]) if given.broker else []
    faults = [fault for outcome in (*outcomes, *real) for fault in outcome.faults]
    _keep(
        {
            "seed": given.seed,
            "roles": [role.user for role in roles],
            "parts": sum(one.sent.total() for one in outcomes[:-1]),
            "decoders": outcomes[-1].sent.total(),
            "broker": sum(one.sent.total() for one in real),
            "faults": len(faults),
            "seconds": round(time.monotonic() - began),
        }
    )
    if faults:
        raise SystemExit(1)


def _printed(where: str, outcome: Outcome) -> Outcome:
    print(
        f"{where}: {outcome.role}: {outcome.sent.total()} messages on {len(outcome.sent)} subjects, "
        f"{outcome.cpu_s:.0f} s of CPU, {outcome.grown_mib:+.0f} MiB, {len(outcome.faults)} faults",
        *outcome.faults,
        sep="\n  ",
        flush=True,
    )
    return outcome


def _keep(row: dict[str, object]) -> None:
    """Add one run to the file of all runs."""
    path = ROOT / "docs" / "benchmarks" / "messages.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*rows, row], indent=1) + "\n")
    print(json.dumps(row))
