"""The console of hams-ctl, and how a command runs: an error becomes one line and an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console

from hams_services.ctl.process import leave_at_once, raise_interrupt
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BrokerError, CredentialsError, HamsError
from hams_shared.runtime.credentials import VARIABLE
from hams_shared.runtime.lifecycle import debug_wanted, report, run, setup_logging
from hams_shared.runtime.listen import broker_listens
from hams_shared.runtime.options import DEFAULT_NATS
from hams_shared.runtime.runfile import running

T = TypeVar("T")

CONNECT_S = 2.0
"""Deadline for connecting to the broker, s."""
BUSY_S = 10.0
"""Deadline of a second attempt, where something listens at the broker's address, s."""
PIPE_WIDTH = 160
"""Width of tables that go to a file or a pipe, characters."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End the command with 0: the reader has ended (`| head`), which is no error."""
        try:
            super().on_broken_pipe()  # drops what is not written, and ends with 1
        except SystemExit:
            raise SystemExit(0) from None


_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
out = _Console(highlight=False, markup=False, emoji=False, width=_WIDTH)
"""For results. Without markup and emoji, since addresses, paths and recognised texts hold brackets and colons."""
err = _Console(stderr=True, highlight=False, markup=False, emoji=False)
"""For progress and remarks, so that results can be piped."""


def broker_url(nats: str | None) -> str:
    """Return the broker to use: `nats`, else that of a running `hams-ctl up` with its credentials, else the default."""
    if nats:
        return nats
    found = running()
    if found is None:
        return DEFAULT_NATS
    if found.credentials is not None:
        os.environ.setdefault(VARIABLE, str(found.credentials))
    return found.url


def with_bus(
    job: Callable[[Bus], Awaitable[None]], nats: str | None, debug: bool, *, stopped_is_fine: bool = False
) -> None:
    """Connect, run `job`, and leave with its exit code; an error becomes one line."""
    from hams_services.ctl.store_disk import explained

    async def connected(stop: asyncio.Event) -> None:
        url = broker_url(nats)
        with explained(url):
            async with bus_at(url) as bus:
                await job(bus)

    without_bus(connected, debug, stopped_is_fine=stopped_is_fine)


@asynccontextmanager
async def bus_at(url: str) -> AsyncIterator[Bus]:
    """Connect to the broker at `url`; one that listens and does not answer in time may be busy, and is tried again.

    Raises:
        CredentialsError: it refuses our credentials.
        BrokerError: there is none.
    """
    from hams_shared.bus.nats.client import NatsBus  # 0.1 s, which commands without a broker save

    async with AsyncExitStack() as stack:
        try:
            bus = await stack.enter_async_context(NatsBus(url, name="hams-ctl", connect_timeout=CONNECT_S))
        except CredentialsError:
            raise
        except BrokerError:
            if not await broker_listens(url, CONNECT_S):
                raise
            if err.is_terminal:
                err.print(f"the broker is slow to answer: waiting up to {BUSY_S:g} s more …", style="dim")
            bus = await stack.enter_async_context(NatsBus(url, name="hams-ctl", connect_timeout=BUSY_S))
        yield bus


def checked(make: Callable[[], T]) -> T:
    """Return what `make` returns, before anything is connected; an error becomes one line and an exit code."""
    try:
        return make()
    except HamsError as error:
        raise typer.Exit(report(error)) from None


def without_bus(
    main: Callable[[asyncio.Event], Awaitable[None]], debug: bool, *, stopped_is_fine: bool = False
) -> None:
    """Run `main` until it ends or Ctrl-C, and leave with its exit code (130, or 0 if `stopped_is_fine`, for Ctrl-C)."""
    stopped = False

    async def until_stopped(stop: asyncio.Event) -> None:
        nonlocal stopped
        async with asyncio.TaskGroup() as owner:
            work = owner.create_task(_run(main, stop))
            watch = owner.create_task(_cancel_on(stop, work))
            await asyncio.wait([work])
            watch.cancel()
        stopped = work.cancelled()

    setup_logging("hams-ctl", debug=debug)
    if not debug and "HAMS_LOG_LEVEL" not in os.environ:
        logging.getLogger().setLevel(logging.WARNING)  # results matter here, not the log
    code = run(until_stopped, debug=debug)
    leave_at_once()  # the handler went with the event loop
    if stopped and not stopped_is_fine:
        code = 130
    if code:
        raise typer.Exit(code)


def run_sync(main: Callable[[], None], debug: bool, stopped: str = "stopped") -> None:
    """Run `main` in this thread, so that Ctrl-C interrupts any wait; errors and exit codes are as everywhere.

    After Ctrl-C it prints `stopped`.
    """
    setup_logging("hams-ctl", debug=debug)
    if not debug and "HAMS_LOG_LEVEL" not in os.environ:
        logging.getLogger().setLevel(logging.WARNING)
    raise_interrupt()
    try:
        main()
    except KeyboardInterrupt:
        err.print(stopped)
        raise typer.Exit(130) from None
    except typer.Exit:
        raise
    except BrokenPipeError:  # `| head`: the reader has ended
        os._exit(0)
    except Exception as error:
        if debug or debug_wanted():
            err.print_exception()
        raise typer.Exit(report(error)) from None
    finally:
        leave_at_once()


async def _run(main: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    await main(stop)


async def _cancel_on(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    await stop.wait()
    task.cancel()


def print_json(value: Any) -> None:
    """Print plain JSON for programs."""
    from pydantic import BaseModel

    from hams_shared.wire import codec

    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    with to_stdout():
        sys.stdout.write(codec.pack_json(value).decode() + "\n")
        sys.stdout.flush()


@contextmanager
def to_stdout() -> Iterator[None]:
    """Let the block write to the standard output itself; when its reader has ended, the command ends with 0."""
    try:
        yield
    except BrokenPipeError:
        out.on_broken_pipe()


async def print_each(
    items: AsyncIterable[T],
    what: str,
    as_json: Callable[[T], Any],
    as_line: Callable[[T], str],
    json: bool,
    count: int | None,
) -> None:
    """Print items as they arrive, as JSON or a line each; `count` of them, or without end."""
    if err.is_terminal and not json:
        err.print(f"waiting for {what} …", style="dim")
    seen = 0
    async for item in items:
        if json:
            print_json(as_json(item))
        else:
            out.print(as_line(item))
        seen += 1
        if seen == count:
            return
