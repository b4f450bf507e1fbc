"""Streams, the frame ledger, the join and the result subjects."""
