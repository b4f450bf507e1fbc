"""Start and end of a hams-ctl process: Ctrl-C at any time, and standard streams that are closed or full."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import TextIO

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def leave_at_once() -> None:
    """Let Ctrl-C end the process silently: nothing has begun yet, or all is done."""
    _on_interrupt(_leave)


def raise_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, as in any Python program."""
    _on_interrupt(signal.default_int_handler)


def _on_interrupt(handler: signal._HANDLER) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def whole_streams() -> None:
    """Open the standard streams that the process was started without; what it writes there is lost.

    Otherwise the next file or socket gets the number of a standard stream, and receives its output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        else:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def written() -> bool:
    """Flush the standard output; return whether that worked. A reader that has ended is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _to_nowhere(sys.stdout)
    except OSError:
        _to_nowhere(sys.stdout)
        return False
    return True


def _to_nowhere(stream: TextIO) -> None:
    """Drop the buffer of `stream`, so that Python does not report it when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
