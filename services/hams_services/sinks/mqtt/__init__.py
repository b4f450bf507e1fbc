"""HAMS on MQTT: events, states that the broker retains, and their description for Home Assistant. See ``bridge``."""
