"""Stands in for Rockchip's ``rknn-toolkit-lite2``; see :mod:`rknnlite.api`."""
