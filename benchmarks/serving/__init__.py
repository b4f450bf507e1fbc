"""How much of what the devices can give reaches the subscriber, and what others make of the same networks."""
