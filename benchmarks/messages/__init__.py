"""Fuzzing of messages: every subject as every role, in process and on a real broker."""
