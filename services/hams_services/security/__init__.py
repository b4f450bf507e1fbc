"""Who may do what on the broker, and the keys and certificates by which it knows: what `hams-ctl init` makes."""
