"""Trains a small network (the student) on the outputs of a node's network (the teacher), or on labels.

Training runs in a child process; PyTorch (extra ``train``) is imported only there.
"""
