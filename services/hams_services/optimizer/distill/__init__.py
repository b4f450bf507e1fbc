"""Trains a small network (the student) on the outputs of a node's network (the teacher), or on labels."""
