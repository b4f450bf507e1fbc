"""How well the FPS that a plan predicts before deployment matches the FPS that is measured afterwards."""
