"""``hams-gateway``: deployed groups for clients of HTTP and gRPC. A service over the bus, by `hams_client` only."""
