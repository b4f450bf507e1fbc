"""The public Python client: what a downstream application imports."""

from hams_client import sync
from hams_client.client import Hams, Image, connect
from hams_client.result import Object, Result

__all__ = ["Hams", "Image", "Object", "Result", "connect", "sync"]
