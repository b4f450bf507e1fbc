"""Strategies: pure functions from a problem and a time budget to an answer; `registry` knows them by name."""
