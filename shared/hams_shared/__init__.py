"""What every HAMS part shares: words on the wire, group files, errors, the bus, process lifecycle."""

__version__ = "0.1.0"
