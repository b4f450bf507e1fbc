"""How a group's joined results are written, and for how long the broker keeps them. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from hams_shared.group.findings import Strict

Format = Literal["msgpack", "json"]

LONGEST_S = 7 * 86_400.0
"""The broker keeps no result for longer, s."""
MAX_MB = 256
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def seconds_of(value: Any) -> float | None:
    """Return a duration such as ``90s``, ``10m``, ``1h`` or ``1d`` in seconds (a number is of seconds); None: none."""
    found = _DURATION.fullmatch(value.strip() if isinstance(value, str) else f"{value}")
    if found is None or isinstance(value, bool):
        return None
    return float(found[1]) * _UNITS_S[found[2]]


class ResultsSpec(Strict):
    """How joined results are written and kept; short forms: ``msgpack``, ``json``, or how long they are kept."""

    format: Format = Field("msgpack", description="how joined results are written")
    keep: float | None = Field(
        None,
        ge=1,
        le=LONGEST_S,
        description="the broker stores results, so that none is lost, and keeps them so long: 90s, 10m, 1h, 7d; "
        "none: it does not",
    )
    max_mb: int = Field(MAX_MB, ge=1, le=4096, description="most MB of kept results; the oldest beyond are discarded")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, dict | ResultsSpec):
            return data
        if data in get_args(Format):
            return {"format": data}
        if seconds_of(data) is None:
            raise ValueError("must be msgpack, json, how long results are kept (90s, 10m, 1h, 7d), or a map")
        return {"keep": data}

    @field_validator("keep", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        seconds = seconds_of(value)
        if value is not None and seconds is None:
            raise ValueError("must be a duration: 90s, 10m, 1h, 7d")
        return seconds

    @model_validator(mode="after")
    def _kept(self) -> ResultsSpec:
        if self.keep is None and self.max_mb != MAX_MB:
            raise ValueError("max_mb needs keep: how long results are kept")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> Any:
        """As earlier versions write and read it, where nothing is kept."""
        return self.format if self.keep is None else handler(self)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core))
        durations = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]?$"}
        keep = schema.get("properties", {}).get("keep")
        if keep is not None:
            keep["anyOf"] = [*keep["anyOf"], durations]
        return {"anyOf": [{"enum": [*get_args(Format)], "type": "string"}, durations, schema]}
