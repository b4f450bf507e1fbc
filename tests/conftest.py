"""Settings for all tests."""

from hypothesis import settings

settings.register_profile("hams", deadline=None)  # machines are shared: an example's wall time says nothing
settings.load_profile("hams")
