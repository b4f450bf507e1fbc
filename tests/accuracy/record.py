"""Records anew what the example groups tell, and shows how that differs from what was recorded before.

    cd tests && ../.venv/bin/python -m accuracy.record [GROUP …]

Run it after a change that is meant to change answers, read what it prints, and commit the files with the reason. Each
frame is looked at several times: as it is, with noise of one grey level, as another decoder may give, and with ONNX
Runtime where it reads the network. What varies by more than half of its tolerance becomes no expectation.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.cases import CASES, Case, Frames, answers, thresholds_of
from accuracy.compare import OPTIONAL, UNSTEADY, Comparison, Difference
from accuracy.group import Networks, places

LIMIT = 0.5
"""The part of its tolerance by which a value may vary here."""
SEEDS = range(1, 9)


def record(case: Case) -> dict[str, Any]:
    """Return what is to be expected of a case."""
    spec = case.spec()
    with tempfile.TemporaryDirectory() as folder:
        networks = Networks(spec, Path(folder))
        onnx = networks.onnx()
        group = networks.serve(spec, places(spec))
        expected = answers(group, _frames(case))
        thresholds = thresholds_of(spec)
        others = [
            answers(group, {name: _noisy(frames, seed) for name, frames in _frames(case).items()}) for seed in SEEDS
        ]
        if onnx:
            others.append(answers(networks.serve(spec, places(spec, onnx)), _frames(case)))
    for other in others:
        comparison = case.comparison(thresholds, LIMIT)
        case.compare(comparison, expected, other)
        _leave_out(comparison)
    return {"group": case.group, "thresholds": thresholds, "onnxruntime": list(onnx), "feeds": expected}


def _leave_out(comparison: Comparison) -> None:
    """Mark what differs."""
    for one in comparison.differences:
        print(f"  left out: {one.text}"[:200])
        match one:
            case Difference(item=dict() as item, key=""):
                item[OPTIONAL] = True
            case Difference(item=dict() as item):
                item[UNSTEADY] = sorted({*item.get(UNSTEADY, ()), one.key})
            case Difference(siblings=list() as siblings, found=dict() as found):
                siblings.append({**found, OPTIONAL: True})
            case _:
                raise AssertionError(one.text)  # a score below the threshold


def _frames(case: Case) -> dict[str, Frames]:
    return {name: feed(case.spec()) for name, feed in case.feeds.items()}


def _noisy(frames: Frames, seed: int) -> Frames:
    """Change every fourth value, of all pixels at random, by one grey level."""
    random = np.random.default_rng(seed)
    noise = np.array([-1, 1, 0, 0, 0, 0, 0, 0])
    for number, image in frames:
        yield number, np.clip(image + random.choice(noise, image.shape), 0, 255).astype(np.uint8)


def text(recorded: dict[str, Any]) -> str:
    """Return the file's content: a line for each object, so that differences can be read."""
    head = {key: value for key, value in recorded.items() if key != "feeds"}
    lines = ["{", *(f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()), ' "feeds": {']
    lines += _joined(_feed(name, frames) for name, frames in recorded["feeds"].items())
    return "\n".join([*lines, " }", "}", ""])


def _feed(name: str, frames: list[dict[str, Any]]) -> list[str]:
    return [f"  {json.dumps(name)}: [", *_joined(_frame(one) for one in frames), "  ]"]


def _frame(one: dict[str, Any]) -> list[str]:
    objects = _joined([f"    {json.dumps(each, ensure_ascii=False, separators=(',', ':'))}"] for each in one["objects"])
    return [f'   {{"frame": {one["frame"]}, "size": {one["size"]}, "objects": [', *objects, "   ]}"]


def _joined(blocks: Iterator[list[str]]) -> list[str]:
    """Put blocks of lines one after another, with a comma behind each but the last."""
    lines: list[str] = []
    for block in blocks:
        if lines:
            lines[-1] += ","
        lines += block
    return lines


def changes(case: Case, former: dict[str, Any], recorded: dict[str, Any]) -> Comparison:
    """Compare what is recorded with what was; frames that only one of them has are left out."""
    comparison = case.comparison(former["thresholds"])
    for name in former["feeds"].keys() & recorded["feeds"].keys():
        before, after = ({one["frame"]: one for one in told["feeds"][name]} for told in (former, recorded))
        both = sorted(before.keys() & after.keys())
        case.compare(comparison, {name: [before[n] for n in both]}, {name: [after[n] for n in both]})
    return comparison


def main(names: list[str]) -> None:
    """Record the groups named, or all."""
    for case in (CASES[name] for name in names or CASES):
        if absent := case.absent():
            print(f"{case.group}: skipped, there is no {absent}")
            continue
        print(f"{case.group}:")
        recorded = record(case)
        if case.path.exists():
            print(changes(case, case.expected(), recorded).report or "  as before, within the tolerances")
        case.path.write_text(text(recorded), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
