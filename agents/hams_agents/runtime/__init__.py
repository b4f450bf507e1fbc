"""What a serving device runs: loaded networks, lanes, queues, and the watch over their progress."""
