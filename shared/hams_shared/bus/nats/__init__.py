"""The bus over a real nats-server.

nats-py imports aiohttp where it is installed (hams[onvif] brings it), for WebSockets, which HAMS does not use. That
costs each process 0.2 s and 11 MB, so nats-py is imported as if it were not installed.
"""

import sys
from typing import Any

if "nats" not in sys.modules:
    _modules: dict[str, Any] = sys.modules
    _aiohttp = _modules.get("aiohttp")
    _modules["aiohttp"] = None
    try:
        import nats.aio.transport  # noqa: F401
    finally:
        del _modules["aiohttp"]
        if _aiohttp is not None:
            _modules["aiohttp"] = _aiohttp
