"""Agents: one process per device, which measures, loads and serves models."""
