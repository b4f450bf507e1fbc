"""What a child process may use, and where it may write; the process sets this itself before it reads anything foreign.

Memory, CPU time and file sizes are the kernel's resource limits. Landlock (Linux 5.13 and newer) confines writing to
one folder and, from Linux 6.7, forbids TCP connections; it needs no privileges and cannot be undone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""System call numbers, equal on all architectures."""
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_WRITING = _WRITE_FILE | 0x1FF0
"""write file, remove (2), make (7 kinds)."""
_REFER = 1 << 13
_TCP = 0b11
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38
_NET_ABI = 4


@dataclass(frozen=True)
class Limits:
    """Limits of one child process; 0 means that there is none. The defaults suit a process that reads foreign files."""

    memory_mib: int = 8192
    """Address space; a runtime maps more than it uses."""
    cpu_s: int = 1800
    file_mib: int = 4096
    """Size of one file that the process writes."""
    open_files: int = 512
    wall_s: float = 1800.0
    """Deadline of one request; the parent enforces it."""
    nice: int = 10
    confine: bool = True
    """Whether to confine writing to the process's folder, where the kernel can."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


UNLIMITED = Limits(memory_mib=0, cpu_s=0, file_mib=0, open_files=0, nice=0, confine=False)
"""For a child process that reads only our own files; its requests still have a deadline."""


def apply(limits: Limits, folder: Path) -> bool:
    """Set the limits of this process and its children; return whether writing is confined to `folder`."""
    with suppress(ImportError):  # Windows
        import resource

        _lower(resource.RLIMIT_CORE, 0, 0)
        for what, value in (
            (resource.RLIMIT_FSIZE, limits.file_mib << 20),
            (resource.RLIMIT_NOFILE, limits.open_files),
        ):
            if value:
                _lower(what, value, value)
        if limits.cpu_s:
            _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 5)
        os.nice(limits.nice)
    limit_memory(limits.memory_mib)
    return limits.confine and confine([folder])


def limit_memory(mib: int, *, mapped: bool = True) -> None:
    """Limit the address space of this process to `mib` MiB, or only what it writes to (`mapped` false); 0: no limit.

    A GPU driver maps far more than it uses (CUDA: 17 GB), so processes that use one limit what they write to.
    """
    if mib:
        with suppress(ImportError):  # Windows
            import resource

            _lower(resource.RLIMIT_AS if mapped else resource.RLIMIT_DATA, mib << 20, mib << 20)


def _lower(what: int, soft: int, hard: int) -> None:
    """Set a limit, never above the present one."""
    import resource

    known = resource.getrlimit(what)[1]
    if known != resource.RLIM_INFINITY:
        soft, hard = min(soft, known), min(hard, known)
    resource.setrlimit(what, (soft, hard))


def confine(folders: Sequence[Path]) -> bool:
    """Let this process write only below `folders`, and open no TCP connection; return False where the kernel cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False
    writing = _WRITING | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    attributes = (ctypes.c_uint64 * 2)(writing, _TCP if abi >= _NET_ABI else 0)
    size = 16 if abi >= _NET_ABI else 8
    rules = libc.syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for path, rights in (*((folder, writing) for folder in folders), (Path(os.devnull), _WRITE_FILE)):
            _allow(libc, rules, path, rights)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT, rules, 0):
            raise OSError(ctypes.get_errno(), "Landlock cannot be enabled")
    finally:
        os.close(rules)
    return True


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _allow(libc: Any, rules: int, path: Path, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _Beneath(rights, handle)
        if libc.syscall(_ADD, rules, _PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"Landlock rejects a rule for {path}")
    finally:
        os.close(handle)
