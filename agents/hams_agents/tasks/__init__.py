"""Pre- and post-processing next to the model, one file per task family."""
