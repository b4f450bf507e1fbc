"""The page beside a system: one optional process, under a supervisor of its own, which never holds up the system."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hams_services.ctl.system.broker import check_port
from hams_services.web.options import DEFAULT_LISTEN, WebOptions, check, listen_address
from hams_shared.bus.urls import for_child
from hams_shared.errors import BadInputError, BrokerError, HamsError
from hams_shared.runtime.credentials import VARIABLE
from hams_shared.runtime.listen import host_port, until_answering
from hams_shared.runtime.supervise import ChildSpec, RestartPolicy, Supervisor, log_event

log = logging.getLogger("hams.up")

NEEDED = ("starlette", "uvicorn", "httptools", "python_multipart")
"""Packages of the extra `web`."""
ANSWER_S = 20.0
"""How long its address waits for the page, s: it is told once the page can be opened."""


def installed() -> bool:
    """Whether the extra `web` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def page_address(wanted: str | None, secured: bool) -> WebOptions | None:
    """Return where the page is to listen: at `wanted`, HOST:PORT, else at the default port or a free one.

    None: the extra is not installed, and the page was not asked for.

    Raises:
        BadInputError: `wanted` is no address, in use, or not a loopback address in a system without credentials; or
            the extra is not installed.
    """
    host, port = listen_address(wanted or DEFAULT_LISTEN)
    options = WebOptions(host, port, credentials=secured)
    check(options)
    if not installed():
        if wanted is None:
            return None
        raise BadInputError("the page needs packages that are not installed", "install hams[web], or use --no-web")
    try:
        return WebOptions(host, check_port(host, port), credentials=secured)
    except BrokerError as error:
        if wanted is not None:
            raise BadInputError(f"--web: {error.text}", "choose another port, or use --no-web") from None
        return WebOptions(host, check_port(host, 0), credentials=secured)


@asynccontextmanager
async def page(options: WebOptions | None, url: str, logs: Path, credentials: Path | None) -> AsyncIterator[str]:
    """Keep hams-web running, and yield its address; without `options`, or where it cannot start, an empty text."""
    if options is None:
        yield ""
        return
    broker, environment = for_child(url)
    spec = ChildSpec(
        name="web",
        argv=(
            *(sys.executable, "-m", "hams_services.web", *broker),
            *("--listen", host_port(options.host, options.port)),
        ),
        env=environment | ({VARIABLE: str(credentials)} if credentials is not None else {}),
        log=logs / "web.log",
        stop_timeout=5.0,
        policy=RestartPolicy(),
    )
    async with Supervisor(log_event) as supervisor:
        try:
            await supervisor.start(spec)
        except HamsError as error:
            log.warning("the page does not start: %s", error)
            yield ""
            return
        if not await until_answering(options.host, options.port, ANSWER_S):
            log.warning("the page does not answer yet; its log: %s", spec.log)
        yield options.url
