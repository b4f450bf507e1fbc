"""The bus: the protocol that all parts use, its NATS and its in-memory implementation, and what builds on both."""
