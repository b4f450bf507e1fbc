"""Fetch all files that group files name into the cache: ``python -m hams_services.models.prefetch GROUP.yaml …``.

For container images and for boxes without a network; files in the cache are not fetched again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from hams_services.models.groups import load_groups
from hams_services.models.sources import fetch
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.lifecycle import run
from hams_shared.runtime.process import cache_folder


def prefetch(spec: GroupSpec, cache: Path) -> list[Path]:
    """Fetch the networks and the videos of `spec`; return their paths. Blocking."""
    wanted = [(node.model, node.sha256 or node.sha384) for node in spec.nodes.values()]
    wanted += [(stream.source, None) for stream in spec.streams.values() if source_kind(stream.source) == "file"]
    return [fetch(source, digest, cache) for source, digest in wanted]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m hams_services.models.prefetch", description=prefetch.__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="GROUP.yaml")
    files: list[Path] = parser.parse_args().files

    async def work(stop: asyncio.Event) -> None:
        for file in files:
            for spec in load_groups(file):
                for path in await asyncio.to_thread(prefetch, spec, cache_folder()):
                    sys.stdout.write(f"{path}\n")

    sys.exit(run(work))


if __name__ == "__main__":
    main()
