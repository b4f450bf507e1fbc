"""What the system does now, as numbers for people and for Prometheus."""
