"""What the commands of hams-ctl do; one module per module of `commands`."""
