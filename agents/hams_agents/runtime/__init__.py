"""A serving device: messages in and out, loaded networks, queues, threads, and the watchdog."""
