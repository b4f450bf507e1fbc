"""The public Python client: what a downstream application imports."""

from hams_client import sync
from hams_client.client import Hams, Image, Pushed, connect
from hams_client.feed import Feed
from hams_client.result import Object, Result
from hams_shared.errors import HamsError

__all__ = ["Feed", "Hams", "HamsError", "Image", "Object", "Pushed", "Result", "connect", "sync"]
