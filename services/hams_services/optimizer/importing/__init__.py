"""Converts networks of foreign formats to the two that devices read: OpenVINO IR and ONNX.

Everything here reads files that may be hostile; it runs in a child process (`optimizer.sandbox`).
"""
