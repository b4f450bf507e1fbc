"""The bus over a real nats-server."""
