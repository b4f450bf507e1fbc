"""Takes from this process, for good and without privileges, files and sockets that it does not need (Linux).

Landlock (5.13 and newer) confines writing, and where asked reading and executing, to some folders; from 6.7 it forbids
TCP, from 6.12 signals to processes outside. A seccomp filter forbids sockets of any network, UDP too. What the kernel
lacks is left out. Neither limits what an open file or a device's driver lets the process do.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""System call numbers of Landlock, equal on all architectures."""
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_WRITING = _WRITE_FILE | 0x1FF0
"""write file, remove (2), make (7 kinds)."""
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
"""The rights that a rule for a single file may have."""
_REFER = 1 << 13
_TCP = 0b11
_SCOPED = 0b11
"""Abstract Unix sockets and signals."""
_NET_ABI, _SCOPE_ABI = 4, 6
_PATH_BENEATH = 1
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


def confine(writable: Iterable[Path | str], readable: Iterable[Path | str] | None = None, *, sockets: bool) -> bool:
    """Let this process write only below `writable`, and read only there and below `readable` (None: everything).

    Without `sockets` it opens none to any network. Those that are not there are left out. Call it while there is one
    thread: others stay as they are. Return False where the kernel has no Landlock.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    confined = _landlock(libc, [*writable], None if readable is None else [*readable], sockets)
    if not sockets:
        _without_sockets(libc)
    return confined


def _landlock(libc: Any, writable: list[Path | str], readable: list[Path | str] | None, sockets: bool) -> bool:
    abi = libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False
    writing = _WRITING | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    reading = 0 if readable is None else _READING
    net, scoped = (0, 0) if sockets else (_TCP, _SCOPED)
    attributes = (ctypes.c_uint64 * 3)(writing | reading, net if abi >= _NET_ABI else 0, scoped)
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NET_ABI else 8
    rules = libc.syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for path in writable:
            _allow(libc, rules, path, writing | reading)
        for path in readable or ():
            _allow(libc, rules, path, reading)
        _allow(libc, rules, os.devnull, _WRITE_FILE | (_READ_FILE & reading))
        if libc.syscall(_RESTRICT, rules, 0):
            raise OSError(ctypes.get_errno(), "Landlock cannot be enabled")
    finally:
        os.close(rules)
    return True


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _allow(libc: Any, rules: int, path: Path | str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, or not for us: nothing to allow
        return
    try:
        rule = _Beneath(rights if os.path.isdir(path) else rights & _OF_FILES, handle)
        if libc.syscall(_ADD, rules, _PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"Landlock rejects a rule for {path}")
    finally:
        os.close(handle)


# ── seccomp: no sockets of networks ───────────────────────────────────────────────────────────────────────────────────

_MACHINES = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}
"""By architecture: its number for the kernel's audit, and of the calls socket and io_uring_setup, whose requests no
filter sees."""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 13
"""Go on; fail with EACCES."""
_NR, _ARCH, _FIRST = 0, 4, 16
"""Where in the kernel's record of a call these stand, bytes."""
_X32 = 0x40000000
_NETWORKS = (2, 10, 17)
"""AF_INET, AF_INET6, AF_PACKET."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _without_sockets(libc: Any) -> None:
    """Have socket() of a network fail with EACCES, in this process and its children; no filter on other machines."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return
    audit, socket_nr, uring_nr = machine
    allow = 7 + len(_NETWORKS)
    deny = allow + 1
    steps = [  # (operation, steps to skip if so, if not, operand)
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 0, deny - 2, audit),  # a program of another architecture is denied all calls
        (_LOAD, 0, 0, _NR),
        (_AT_LEAST, deny - 4, 0, _X32),
        (_EQUAL, deny - 5, 0, uring_nr),
        (_EQUAL, 0, allow - 6, socket_nr),
        (_LOAD, 0, 0, _FIRST),
        *((_EQUAL, deny - 8 - number, 0, family) for number, family in enumerate(_NETWORKS)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    with suppress(OSError):
        libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)
