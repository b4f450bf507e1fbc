"""Filter pruning: networks with fewer channels."""
