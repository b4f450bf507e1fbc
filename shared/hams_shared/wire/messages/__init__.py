"""Control messages and KV records; one file per part that writes them."""
