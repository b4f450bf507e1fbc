"""Precision: half-precision weights, computing in bf16."""
