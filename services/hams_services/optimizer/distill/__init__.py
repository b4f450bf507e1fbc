"""Fits a small network to say what a large one says, or what labels say, for devices that the large one is too slow on.

Runs in a process of its own, ``python -m hams_services.optimizer.distill REQUEST.json``; PyTorch (extra ``train``) is
imported only there.
"""
