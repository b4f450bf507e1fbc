"""The sandbox in which an agent compiles an unknown network for a CPU the first time.

It may write to a folder of its own and read the system's libraries, Python's, and the network; it has no sockets of
networks, no credentials in its environment, and limits of memory, CPU time and file sizes. See docs/security.md.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hams_agents.backends.host import memory_mib
from hams_agents.devices import DeviceSpec
from hams_shared.errors import UnsupportedModelError
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import ChildProcess, sandboxed

TRUST = "HAMS_TRUST_MODELS"
SHARE = 0.75
"""Of the memory of the host, or of the container, that the child may write to."""
LEAST_MIB = 512
CPU_S = 600
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/opt", "/nix/store", "/proc", "/sys", "/dev/urandom", "/dev/zero",
    "/dev/null", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/OpenCL",
    "/etc/alternatives",
)  # fmt: skip
"""What runtimes and Python read of the system; nothing of /home, /root, /var, /run, and of /etc only this."""


def trusted() -> bool:
    """Whether the operator trusts all networks: they are compiled in the agent at once, which saves seconds."""
    return os.environ.get(TRUST, "").lower() in ("1", "true", "yes")


@contextmanager
def trial(model: Path, spec: DeviceSpec, confined: bool) -> Iterator[ChildProcess]:
    """A child process that compiles the network in `model`, in the sandbox if `confined`."""
    if not confined:
        with ChildProcess(blame=UnsupportedModelError) as child:
            yield child
        return
    with tempfile.TemporaryDirectory(prefix="hams-trial-") as folder:
        limits = Limits(
            memory_mib=max(LEAST_MIB, int(SHARE * memory_mib())),
            mapped=False,
            cpu_s=CPU_S,
            nice=0,
            open_files=1024,
            readable=tuple(_readable(model, spec)),
        )
        place = Path(folder).resolve()
        environment = {**sandboxed(place, os.environ), "OMP_NUM_THREADS": str(spec.threads)}
        with ChildProcess(place, limits, environment=environment, blame=UnsupportedModelError) as child:
            yield child


def _readable(model: Path, spec: DeviceSpec) -> list[str]:
    """Return what the child may read: the system, Python with its packages, the network and a device's profile."""
    python = [sys.prefix, sys.base_prefix, sysconfig.get_paths()["stdlib"], *site.getsitepackages(), *_import_path()]
    profile = [spec.target] if os.path.isabs(spec.target) else []
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    found = [*SYSTEM, *python, *libraries, *profile, str(model.parent)]
    return list(dict.fromkeys(os.path.abspath(one) for one in found if one))


def _import_path() -> list[str]:
    """Return where Python looks for modules, without the folder that the agent was started in.

    ``python -m`` puts that first: the user's own files lie there, perhaps keys. It stays where HAMS itself is in it.
    """
    here = os.getcwd()
    if os.path.isdir(os.path.join(here, __name__.partition(".")[0])):
        return sys.path
    return [one for one in sys.path if os.path.abspath(one) != here]
