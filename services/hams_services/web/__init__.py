"""`hams-web`: the page of HAMS. A server that reads the state over the bus, and a front end without a build step."""
