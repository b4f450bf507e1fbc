"""The link to a second box is cut and healed; needs root, since the second box is a network namespace."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

from benchmarks.reliability.rig import Rig
from benchmarks.reliability.watcher import Watcher, serving, states
from benchmarks.serving.cases import ROOT
from hams_client import connect

CUT_S = 10.0
FAR_FPS = 120.0


def possible() -> bool:
    """Whether this user may make the second box here."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


async def cut_link(cuts: int) -> list[dict[str, float]]:
    """Cut it while the far device serves; heal it after `CUT_S`; wait until the far device is back among the others."""
    sys.path.append(str(ROOT / "tests"))
    from support.boxes import FarBox  # the tests' own second box

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with FarBox(folder) as box, Rig(folder, "0.0.0.0", box.secrets) as rig:
            async with AsyncExitStack() as stack:
                watcher = Watcher(
                    await stack.enter_async_context(connect(rig.url, credentials=box.secrets / "admin.creds"))
                )
                stack.callback(asyncio.create_task(watcher.collect()).cancel)
                far = SimpleNamespace(env=rig.env, url=f"nats://{box.near_address}:{rig.port}")
                box.join(far, rig.profile("far", FAR_FPS))  # type: ignore[arg-type]
                path = str(rig.group_file())
                for number in range(cuts):
                    await watcher.until_view(lambda v: list(states(v).values()).count("alive") == 3, "three devices")
                    await asyncio.to_thread(rig.ctl, "deploy", path)
                    watcher.results.clear()
                    await watcher.until(lambda: len(watcher.results) >= 20, "results")
                    assert watcher.device == "far.emulated.far", watcher.device
                    box.cut()
                    cut = time.monotonic()
                    await watcher.until(lambda: watcher.device != "far.emulated.far", "another device")
                    replaced = time.monotonic() - cut
                    await asyncio.sleep(max(0.0, CUT_S - replaced))
                    box.heal()
                    healed = time.monotonic()
                    back = await watcher.until_view(
                        lambda v: states(v).get("far") == "alive" and serving(v), "the far device"
                    )
                    await watcher.steady()
                    frames = [r.frame for _, r in watcher.results]
                    first = frames[0]
                    rows.append(
                        {
                            "replaced_s": round(replaced, 3),
                            "converged_s": round(back - healed, 3),
                            "no_frame_lost_or_doubled": float(frames == list(range(first, first + len(frames)))),
                        }
                    )
                    print(f"link {number + 1:2d}/{cuts}: {rows[-1]}", flush=True)
                    await asyncio.to_thread(rig.ctl, "undeploy", "grey")
    return rows
