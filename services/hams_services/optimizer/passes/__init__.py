"""The passes of the optimizer: each makes a faster variant of a network."""
