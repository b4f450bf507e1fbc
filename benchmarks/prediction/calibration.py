"""The calibration kernel: a fixed matrix product on every core, which shows how fast the machine is at a moment.

It runs in a process per core, whose BLAS has one thread: ``python -m benchmarks.prediction.calibration CORE AT``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np

KERNEL_S = 1.5
START_S = 0.7
"""The processes start to count together, so long after they were made."""
SIDE = 256
"""Rows and columns of the float32 matrices: they fit in the second-level cache of a core."""
LIMIT_S = 30.0


def rate() -> float:
    """Return products/s of all cores together."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.prediction.calibration"]
    at = f"{time.time() + START_S}"
    running = [
        subprocess.Popen([*command, f"{core}", at], env=env, stdout=subprocess.PIPE, text=True)
        for core in sorted(os.sched_getaffinity(0))
    ]
    return sum(float(one.communicate(timeout=LIMIT_S)[0]) for one in running)


def on_core(core: int, at: float) -> float:
    """Return products/s on one core, counted from the Unix time `at` on."""
    os.sched_setaffinity(0, {core})
    left, right = (np.random.default_rng(seed).random((SIDE, SIDE), np.float32) for seed in (0, 1))
    out = np.empty_like(left)
    while time.time() < at:
        np.matmul(left, right, out=out)
    begin, count = time.perf_counter(), 0
    while (span := time.perf_counter() - begin) < KERNEL_S:
        np.matmul(left, right, out=out)
        count += 1
    return count / span


if __name__ == "__main__":
    print(on_core(int(sys.argv[1]), float(sys.argv[2])))
