"""Runs nodes on stored images, outside of serving: what the optimizer measures accuracy and calibrates with.

The optimizer must not import agents, and an answer must be the node's own; so this is a process with a request file,
``python -m hams_agents.evaluate REQUEST.json``, and what it writes is files.
"""
