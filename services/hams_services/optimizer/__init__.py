"""NCO, the neural computing optimizer: brings networks into the form each device wants."""
