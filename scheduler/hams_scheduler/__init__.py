"""HAMS scheduler: which network of a group runs on which device.

The scheduling core (`instance`, `problem`, `objective`, `strategies`, `replan`, `whatif`) is pure: the
same input gives the same answer, and nothing in it does I/O. The running scheduler wraps it.
"""
