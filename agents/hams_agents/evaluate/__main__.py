"""``python -m hams_agents.evaluate REQUEST.json``: does it, and ends.

Exit status 0; otherwise that of the error, whose wire form is the last line of standard output.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse, pin
from hams_agents.evaluate.requests import Decode, Read, Request, Tensors
from hams_shared.errors import BadInputError, as_hams_error


def main(argv: list[str]) -> int:
    """Do one request."""
    try:
        if len(argv) != 1:
            raise BadInputError("usage: python -m hams_agents.evaluate REQUEST.json")
        request = _read(Path(argv[0]))
        if isinstance(request, Tensors):
            _limit(request.memory_mib, on_cpu=True)
            from hams_agents.evaluate import run

            print(json.dumps(run.write_tensors(request)))
        else:
            device = parse(request.device)
            _limit(request.memory_mib, on_cpu=device.target == "CPU")
            pin(device.cores)
            from hams_agents.evaluate import run  # a runtime asks how many cores there are: only after pinning

            backend = open_backend(device)
            if isinstance(request, Decode):
                run.decode(request, backend)
            elif isinstance(request, Read):
                print(json.dumps(run.read(request, backend)))
            else:
                print(json.dumps(run.collect(request, backend)))
    except Exception as error:
        known = as_hams_error(error)
        print(json.dumps(known.to_wire()), flush=True)
        return known.exit_code
    return 0


def _limit(memory_mib: int, on_cpu: bool) -> None:
    """Let this process have no more than that, where the system can do it.

    Address space on a CPU; a GPU's driver maps far more of it than it uses (CUDA 17 GB), so there what is written to.
    """
    if memory_mib:
        with suppress(ImportError):
            import resource

            what = resource.RLIMIT_AS if on_cpu else resource.RLIMIT_DATA
            hard = resource.getrlimit(what)[1]
            wanted = memory_mib << 20 if hard == resource.RLIM_INFINITY else min(memory_mib << 20, hard)
            resource.setrlimit(what, (wanted, hard))


def _read(path: Path) -> Request:
    adapter: TypeAdapter[Request] = TypeAdapter(Request)
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise BadInputError(f"{path.name}: {findings}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
