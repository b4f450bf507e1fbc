"""Runs one request of the optimizer in this process, which ends afterwards."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse, pin
from hams_agents.evaluate.requests import Collect, Decode, Request, Tensors
from hams_shared.errors import BadInputError
from hams_shared.runtime.child_limits import limit_memory


def evaluate(request: dict[str, Any]) -> Any:
    """Run a request; see :mod:`hams_agents.evaluate.requests` for the results.

    Raises:
        BadInputError: the request is wrong, or the samples cannot be read.
        HamsError: the device cannot be opened, or the network cannot be loaded or run.
    """
    known = _read(request)
    if isinstance(known, Tensors):
        limit_memory(known.memory_mib)
        from hams_agents.evaluate import run

        return run.write_tensors(known)
    device = parse(known.device)
    limit_memory(known.memory_mib, mapped=device.target == "CPU")
    pin(device.cores)
    from hams_agents.evaluate import run  # after pinning: runtimes count the cores when they are imported

    backend = open_backend(device)
    if isinstance(known, Decode):
        return run.decode(known, backend)
    if isinstance(known, Collect):
        return run.collect(known, backend)
    return run.used_outputs_of(known, backend)


def _read(request: dict[str, Any]) -> Request:
    adapter: TypeAdapter[Request] = TypeAdapter(Request)
    try:
        return adapter.validate_python(request)
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise BadInputError(f"the request for an evaluation is wrong: {findings}") from None
