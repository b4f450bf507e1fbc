"""What is sent: subjects, messages and records, frames, and their bytes."""
