"""The thread that looks whether the others make progress; :mod:`hams_agents.runtime.health` says what follows if not.

A last resort ends the process when this thread cannot run.
"""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable

from hams_agents.runtime.progress import Hang, Progress
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock

LOOK_S = 0.25
STUCK_S = 60.0
"""When nothing of Python has run for so long (a native call that keeps its lock), the process ends with a traceback."""
REARM_S = 5.0


class Watchdog:
    """Calls `on_hang`, once and in its own thread, when something watched does not end."""

    def __init__(
        self,
        watched: tuple[Progress, ...],
        on_hang: Callable[[Hang], None],
        clock: Clock = SYSTEM_CLOCK,
        *,
        own_process: bool = True,
    ) -> None:
        self._watched = watched
        self._on_hang = on_hang
        self._clock = clock
        self._own_process = own_process
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._look()
        finally:
            if self._own_process:
                faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        last = self._clock.now()
        armed = last - REARM_S
        while self._waited():
            now = self._clock.now()
            if self._own_process and now - armed >= REARM_S:
                armed = now
                faulthandler.dump_traceback_later(STUCK_S, exit=True)
            for progress in self._watched:
                hang = progress.tick(now - last)
                if hang is not None:
                    self._on_hang(hang)
                    return
            last = now

    def _waited(self) -> bool:
        """Wait until it is time to look; False at the end."""
        with self._changed:
            if not self._stopping:
                self._clock.wait(self._changed, LOOK_S)
            return not self._stopping
