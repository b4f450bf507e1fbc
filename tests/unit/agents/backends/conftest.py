"""The backends of any CPU."""

from __future__ import annotations

import pytest

from hams_agents.backends.base import Backend
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse


@pytest.fixture(scope="module")
def openvino() -> Backend:
    return open_backend(parse("openvino:CPU"))


@pytest.fixture(scope="module")
def onnxruntime() -> Backend:
    return open_backend(parse("onnxruntime:CPU"))
