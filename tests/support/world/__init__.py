"""A whole system in one process, on a clock that jumps over waits: real services, an in-memory bus, a stub device."""
