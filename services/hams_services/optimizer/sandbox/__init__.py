"""The child process of a job: its requests, its environment, and the texts of its tools' errors."""
