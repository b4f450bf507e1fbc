"""How well two networks agree, through a node's own post-processing. Metrics are defined in docs/nco.md."""
