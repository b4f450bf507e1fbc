"""The public Python client: what a downstream application imports."""

from hams_client.client import Hams, Result, connect

__all__ = ["Hams", "Result", "connect"]
