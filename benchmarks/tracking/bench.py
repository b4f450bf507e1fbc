"""``python -m benchmarks tracking``: CPU time per frame, IDF1 and MOTA beside `trackers`, agreement of cadences."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.tracking import served
from benchmarks.tracking.cadence import measure, read
from benchmarks.tracking.compare import compare, on_video
from benchmarks.tracking.cost import cost
from benchmarks.tracking.metrics import evaluate
from benchmarks.tracking.sequences import sequences
from hams_shared.runtime.process import cache_folder

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "benchmarks"
PEERS = ROOT / ".bench-peers" / "bin" / "python"
VIDEO = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
OBJECTS = (5, 20, 100)


def main(options: list[str]) -> None:
    """Run, and write docs/benchmarks/tracking.json and tracking.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tracking")
    parser.add_argument("--peers", type=Path, default=PEERS, help="Python with `trackers` (make bench-peers)")
    parser.add_argument("--video", type=Path, default=VIDEO, help="of people; Debian's opencv-doc has the default")
    parser.add_argument("--served", action="store_true", help="only what rules save in a running system; 15 minutes")
    given = parser.parse_args(options)
    raw = DOCS / "tracking.json"
    if given.served:
        result = json.loads(raw.read_text())
        result["served"] = served.measure(str(given.video))
        _write(result, raw)
        return
    found = sequences(cache_folder() / "tracking")
    peers = given.peers if given.peers.exists() else None
    rows, peer = compare(found, peers)
    video = read(str(given.video)) if given.video.exists() else None
    rows += on_video(video, peers) if video and peers else []
    result: dict[str, Any] = {
        "cost": {str(objects): cost(objects) for objects in OBJECTS},
        "peer_ms": peer,
        "check": {one.name: asdict(evaluate(one.reference, one.found)) for one in found},
        "rows": [asdict(row) for row in rows],
        "cadence": measure(video) if video else None,
        "served": json.loads(raw.read_text()).get("served", []) if raw.exists() else [],
    }
    _write(result, raw)


def _write(result: dict[str, Any], raw: Path) -> None:
    raw.write_text(json.dumps(result, indent=1) + "\n")
    (DOCS / "tracking.md").write_text(table(result))
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["| CPU, ms per frame: least (median) | " + " | ".join(f"{n} objects" for n in result["cost"]) + " |"]
    lines.append("|---|" + "---|" * len(result["cost"]))
    for key, text in (("update", "detections"), ("predict", "prediction alone"), ("flow", "optical flow, from 1080p")):
        cells = ["{:.2f} ({:.2f})".format(*one[key]) for one in result["cost"].values()]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    lines += ["", "| detections | tracker | IDF1 | MOTA | switches | tracks |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        values = (row["idf1"], row["mota"], row["switches"], row["tracks"])
        lines.append(
            "| {} | {} | ".format(row["detections"], row["tracker"]) + "{:.3f} | {:.3f} | {:g} | {:g} |".format(*values)
        )
    if result["cadence"]:
        lines += ["", *_cadence(result["cadence"])]
    if result.get("served"):
        lines += ["", *_served(result["served"])]
    return "\n".join(lines) + "\n"


def _cadence(found: dict[str, Any]) -> list[str]:
    lines = [
        "| detector on every | boxes alone | with flow | ÷ ceiling {:.3f} |".format(found["ceiling"]),
        "|---|---|---|---|",
    ]
    for every in sorted({key.split()[0] for key in found["agreement"]}):
        boxes, flow = (found["agreement"][f"{every} {way}"] for way in ("boxes", "flow"))
        cells = ["{:.3f} ({:.3f}, {:.3f})".format(*one) for one in (boxes, flow)]
        part = " and ".join(f"{one[0] / found['ceiling']:.2f}" for one in (boxes, flow))
        lines.append(f"| {every}. frame | {cells[0]} | {cells[1]} | {part} |")
    lines += ["", "| | number of objects changes | one-frame gaps | one-frame flashes |", "|---|---|---|---|"]
    for key in ("untracked", "tracked"):
        one = found[key]
        lines.append("| {} | {:.1%} of frames | {} | {} |".format(key, one["changes"], one["gaps"], one["flashes"]))
    return lines


def _served(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| served, against every frame | frames | busy time of devices | inferences | IDF1 | agreement of answers |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        inferences = ", ".join(f"{node} {part:.2f}" for node, part in row["inferences"].items())
        agreement = ", ".join(f"{node} {value:.3f}" for node, value in row["agreement"].items()) or "–"
        idf1 = "–" if row["idf1"] is None else f"{row['idf1']:.3f}"
        lines.append(f"| {row['case']} | {row['frames']} | {row['busy']:.2f} | {inferences} | {idf1} | {agreement} |")
    return lines
