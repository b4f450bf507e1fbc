"""Whole systems: started, joined, supervised, backed up and diagnosed."""
