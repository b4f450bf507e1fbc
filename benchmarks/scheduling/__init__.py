"""Scheduling benchmark: generated instances, all strategies, a table and a plot."""
