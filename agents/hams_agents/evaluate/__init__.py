"""Runs nodes on stored images, outside of serving: the optimizer measures accuracy and calibrates with it.

The optimizer must not import agents, and the predictions must be the node's own; so it calls
:func:`hams_agents.evaluate.entry.evaluate` in a child process (:mod:`hams_shared.runtime.child_process`).
"""
