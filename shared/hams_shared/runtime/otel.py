"""What traces and metrics by OpenTelemetry have in common: the extra, the resource, and a log that stays short.

Nothing of OpenTelemetry is imported before it is asked for.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import hams_shared
from hams_shared.errors import BadInputError
from hams_shared.runtime.process import host_name

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

SERVICE = "OTEL_SERVICE_NAME"
ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Import OpenTelemetry in the block. Raises BadInputError where it is not installed; `what` needs it."""
    try:
        yield
    except ImportError as error:
        raise BadInputError(
            f"{what} needs OpenTelemetry ({error.name or error} is not installed)", "pip install 'hams[otel]'"
        ) from None
    quieten()


def check_protocol(environ: Mapping[str, str], signal: str) -> None:
    """Raise BadInputError where another protocol than OTLP over HTTP is asked for; `signal`: TRACES, METRICS."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        name = environ.get(variable, "").strip().lower()
        if name:
            if name != "http/protobuf":
                raise BadInputError(
                    f"{variable} is {name!r}: HAMS has http/protobuf only", "collectors take it on port 4318"
                )
            return


def resource(service: str, about: Mapping[str, str] | None = None, *, named: bool = True) -> Resource:
    """Return who did it: `service`, its version and host, and what the environment and `about` add.

    With `named`, OTEL_SERVICE_NAME, or ``service.name`` among OTEL_RESOURCE_ATTRIBUTES, takes the place of `service`.
    """
    from opentelemetry.sdk.resources import Resource

    given = named and (os.environ.get(SERVICE) or "service.name=" in os.environ.get(ATTRIBUTES, ""))
    own = {"service.version": hams_shared.__version__, "host.name": host_name(), **(about or {})}
    if not about and "host.name=" in os.environ.get(ATTRIBUTES, ""):
        del own["host.name"]
    return Resource.create(own if given else {"service.name": service, **own})


def quieten() -> None:
    """Log what OpenTelemetry has to say of one kind for the 1st, 2nd, 4th, 8th … time only."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, _Rarely) for known in handler.filters):
            handler.addFilter(_Rarely())


class _Rarely(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("opentelemetry", "urllib3")):
            return True
        key = f"{record.name} {record.msg}"[:200]
        if len(self._seen) < 256 or key in self._seen:
            self._seen[key] += 1
        count = self._seen[key]
        return count & (count - 1) == 0
