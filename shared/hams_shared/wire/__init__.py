"""The wire format: subjects, messages and records, frames, and their encoding."""
