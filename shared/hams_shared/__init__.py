"""Code that all HAMS parts share: messages, group files, errors, the bus, process lifecycle."""

__version__ = "0.1.0"
