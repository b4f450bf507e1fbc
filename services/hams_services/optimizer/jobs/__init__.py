"""What an optimizer process does: takes jobs from KV, one at a time, and does them."""
