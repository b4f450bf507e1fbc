"""Child processes of jobs: their limits, their deadlines, and how their end is named."""
