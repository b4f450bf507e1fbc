"""The bus without a broker, for tests and for embedding."""
