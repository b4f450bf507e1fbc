"""hams-ctl, the command line."""
