"""The public Python client: what a downstream application imports."""

from hams_client import sync
from hams_client.client import Hams, Image, Pushed, connect
from hams_client.events import Event
from hams_client.feed import Feed
from hams_client.result import Box, Object, Prediction, Result
from hams_shared.errors import HamsError, NoResultError

__all__ = [
    "Box",
    "Event",
    "Feed",
    "Hams",
    "HamsError",
    "Image",
    "NoResultError",
    "Object",
    "Prediction",
    "Pushed",
    "Result",
    "connect",
    "sync",
]
