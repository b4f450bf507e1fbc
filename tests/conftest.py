"""Settings for all tests: their tiers, their examples, the width that commands print in."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings

WIDTH = shutil.get_terminal_size().columns
"""Of pytest's own output, characters."""
os.environ["COLUMNS"] = "200"
"""Of what commands print under test. Whoever starts pytest may have set it, and GNU readline, which pytest loads, sets
it to 80 for all child processes, pytest-xdist's among them."""
os.environ.setdefault("HAMS_ALLOW_PRIVATE_URLS", "127.0.0.0/8")
"""The servers of tests are on this host; tests of what is refused take it away."""
HOME = tempfile.TemporaryDirectory(prefix="hams-home-")
os.environ["HAMS_HOME"] = HOME.name
"""What commands keep in the home of their user stays out of it."""
os.environ.setdefault("HAMS_TRUST_MODELS", "1")
"""Agents of tests know their networks; tests of the sandbox take it away."""
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # tests run beside each other; threads that wait for a core burn the others'

LIBM = ctypes.CDLL("libm.so.6")
FE_DFL_ENV = ctypes.c_void_p(-1)


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """A thread that has run a network takes numbers below 1e-38 as zero; here it is the tests' own thread."""
    yield
    LIBM.fesetenv(FE_DFL_ENV)


settings.register_profile("hams", deadline=None, derandomize=True)  # the same examples in every run
settings.register_profile("thorough", deadline=None, max_examples=300, print_blob=True)  # others in every run
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "hams")
settings.load_profile(PROFILE)
if PROFILE != "thorough":
    # Hypothesis also tries numbers and texts that stand in our modules, as far as they are loaded: then any change of
    # the code, and any choice of tests, would give others. Its versions that do not have these names are left alone.
    with suppress(ImportError):
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants

        if hasattr(providers, "_get_local_constants"):
            providers._get_local_constants = Constants


@pytest.hookimpl(tryfirst=True)  # before `-m` takes its choice
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(extra) for extra in ("nco", "train")):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1200))  # for others pyproject.toml has one


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.pluginmanager.has_plugin("terminalreporter"):
        session.config.get_terminal_writer().fullwidth = WIDTH


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests one worker runs one after another, where several do: those that share what is dear to make.

    Containers need one daemon and images that are built once; the files of fast tests have fixtures of their own.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByCost(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if path.startswith("tests/compose/"):
                return "tests/compose"
            return nodeid if path.startswith(("tests/system/", "tests/world/")) else path

    return ByCost(config, log)
