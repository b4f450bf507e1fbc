"""The present state of the system as numbers, for people and for Prometheus."""
