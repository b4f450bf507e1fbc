"""Inference runtimes, one file each, behind :class:`hams_agents.backends.base.Backend`."""
