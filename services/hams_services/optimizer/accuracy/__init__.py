"""How nearly two networks say the same, through a node's own post-processing. Figures are defined in docs/nco.md."""
