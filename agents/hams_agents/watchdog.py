"""The thread that looks whether the others make progress, and a last resort for when it cannot run itself."""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from collections.abc import Callable

from hams_agents.progress import Hang, Progress

log = logging.getLogger("hams.agent")

LOOK_S = 0.25
STUCK_S = 60.0
"""When nothing of Python has run for so long (a native call that keeps its lock), the process ends with a traceback."""
REARM_S = 5.0


class Watchdog:
    """Calls `on_hang`, once and in its own thread, when something watched does not end."""

    def __init__(self, watched: tuple[Progress, ...], on_hang: Callable[[Hang], None]) -> None:
        self._watched = watched
        self._on_hang = on_hang
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last = armed = time.monotonic()
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        try:
            while not self._stop.wait(LOOK_S):
                now = time.monotonic()
                if now - armed >= REARM_S:
                    armed = now
                    faulthandler.dump_traceback_later(STUCK_S, exit=True)
                for progress in self._watched:
                    hang = progress.tick(now - last)
                    if hang is not None:
                        self._on_hang(hang)
                        return
                last = now
        finally:
            faulthandler.cancel_dump_traceback_later()
