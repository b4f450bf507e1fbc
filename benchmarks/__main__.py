"""``make bench``: all benchmarks, or those named on the command line."""

from __future__ import annotations

import sys

from benchmarks.scheduling import bench as scheduling
from benchmarks.serving import bench as serving

PARTS = {"scheduling": scheduling.main, "serving": serving.main}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    for name in wanted:
        if name not in PARTS:
            raise SystemExit(f"no benchmark {name!r}; there are {', '.join(PARTS)}")
        PARTS[name]()


if __name__ == "__main__":
    main()
