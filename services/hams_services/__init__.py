"""Services around serving: pipeline, optimizer, zoo, dashboard and hams-ctl."""
