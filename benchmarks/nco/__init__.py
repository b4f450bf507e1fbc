"""What variants bring, and what hostile files do."""
