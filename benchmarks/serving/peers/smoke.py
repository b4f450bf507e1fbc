"""Runs every peer for a moment on Service F, LitServe on its detector alone: do they run, and find the same?

``python -m benchmarks.serving.peers.smoke [--seconds S] [--window N] [PEER …]`` prints a table; status 1 when a peer
gave no score.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.serving.case import Case
from benchmarks.serving.cases import FACE, PEERS, ROOT, SIZES, devices, network_files, video
from benchmarks.serving.peers.common import START_S, STOP_S, scratch

ALONE = ("litserve",)
"""Peers that run one network only."""
EXTRA_S = START_S + 4 * STOP_S
"""Longest time for a run beside what is measured: start, stop, and loading."""


def cases(folder: Path, seconds: float, window: int) -> tuple[Case, Case]:
    """Service F with its detector and TFLite networks on OpenVINO, gender and age on ONNX Runtime; the detector."""
    units = devices(("openvino", "onnxruntime"))
    ov, ort = units
    spec = yaml.safe_load(FACE.read_text())
    places = {node: {ort if node in ("gender", "age") else ov: 1.0} for node in spec["nodes"]}
    film, files = str(video(SIZES["vga"], folder)), network_files(FACE, folder)
    group = Case("F vga", str(FACE), film, units, places, files, window=window, warmup_s=2.0, seconds=seconds)
    alone = folder / "detector.yaml"
    alone.write_text(yaml.safe_dump(spec | {"nodes": {"face": spec["nodes"]["face"]}}))
    only = {"face": places["face"]}, {"face": files["face"]}
    return group, replace(group, name="detector", group=str(alone), places=only[0], models=only[1])


def run(peer: str, case: Case, folder: Path) -> dict[str, Any]:
    """Return the peer's score, or why there is none. However this ends, the peer gets the time to clean up."""
    path = folder / "case.json"
    case.save(path)
    argv = [sys.executable, "-m", f"benchmarks.serving.peers.{peer.replace('-', '_')}", str(path)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, told = process.communicate(timeout=EXTRA_S + case.warmup_s + case.seconds)
    except subprocess.TimeoutExpired:
        return {"error": "no score in time"}
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 * STOP_S)
        process.kill()
    if process.returncode or not out.strip():
        return {"error": ([*told.strip().splitlines()] or ["no output"])[-1]}
    score: dict[str, Any] = json.loads(out.splitlines()[-1])
    return score


def main() -> int:
    """Run them; 0 when all gave a score."""
    parser = argparse.ArgumentParser(prog="smoke")
    parser.add_argument("peers", nargs="*", default=[*PEERS, *ALONE], metavar="PEER")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--window", type=int, default=4)
    chosen = parser.parse_args()
    failed = 0
    with scratch() as folder:
        group, alone = cases(folder, chosen.seconds, chosen.window)
        print(f"{'peer':<16}{'case':<10}{'FPS':>8}{'p50 ms':>9}{'p95 ms':>9}{'MiB':>8}{'objects/frame':>15}")
        for peer in chosen.peers:
            case = alone if peer in ALONE else group
            score = run(peer, case, folder)
            if error := score.get("error"):
                failed += 1
                print(f"{peer:<16}{case.name:<10}  {error}", flush=True)
                continue
            each = score["objects"] / (score["fps"] * case.seconds)
            figures = f"{score['fps']:8.1f}{score['p50_ms']:9.1f}{score['p95_ms']:9.1f}{score['memory_mib']:8.0f}"
            print(f"{peer:<16}{case.name:<10}{figures}{each:15.2f}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
