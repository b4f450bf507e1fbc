"""``hams-ctl``: the command line. The commands are in :mod:`app`; here the process starts and ends.

Signals and standard streams are set up before anything else is imported.
"""

from __future__ import annotations

import os
import signal
import sys

signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # before the imports, which take time


def main() -> None:
    """Entry point."""
    from hams_services.ctl.process import leave_at_once, whole_streams, written

    leave_at_once()
    whole_streams()
    from hams_services.ctl.app import app
    from hams_shared.runtime.lifecycle import report

    code = 1
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except OSError as error:  # typer and `schema` write to the standard output themselves
        code = report(error)
    if not written() and not code:
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
