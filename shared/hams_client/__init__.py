"""The public Python client: what a downstream application imports."""

from hams_client import sync
from hams_client.client import Hams, Image, Pushed, connect
from hams_client.events import Event
from hams_client.feed import Feed
from hams_client.history import HistoryEntry
from hams_client.result import Box, Object, Prediction, Result
from hams_shared.errors import HamsError, NoResultError
from hams_shared.wire.messages.pipeline import GroupSummary, NodeSummary

__all__ = [
    "Box",
    "Event",
    "Feed",
    "GroupSummary",
    "Hams",
    "HamsError",
    "HistoryEntry",
    "Image",
    "NoResultError",
    "NodeSummary",
    "Object",
    "Prediction",
    "Pushed",
    "Result",
    "connect",
    "sync",
]
