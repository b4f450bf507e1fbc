"""What is lost, and for how long, when parts are killed."""
