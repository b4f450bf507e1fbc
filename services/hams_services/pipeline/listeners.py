"""Who follows the frames of a flow."""

from __future__ import annotations

from collections.abc import Callable

from hams_services.pipeline.flight import Close
from hams_services.pipeline.sources.base import Picture
from hams_shared.wire.results import FrameResult

OnClose = Callable[[Close, FrameResult | None], None]
"""Called with every frame that ends; with its result when it was delivered."""
OnFrame = Callable[[int, Picture, float | None], None]
"""Called with the number, the pixels and the media time of every frame that is computed."""
