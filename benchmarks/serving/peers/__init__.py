"""What people would use instead of HAMS, each in a process of its own; see ``make bench-peers``."""
