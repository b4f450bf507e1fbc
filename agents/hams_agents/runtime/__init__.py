"""A serving device: loaded networks, queues, threads, and the watchdog."""
