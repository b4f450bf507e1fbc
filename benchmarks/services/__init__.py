"""Services F, P and V, alone and together: what was predicted and what was measured, by strategy and devices."""
