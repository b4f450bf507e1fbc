"""Which of several schedulers leads, and the writes that only the leader makes."""
