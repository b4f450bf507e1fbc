"""Networks without what the node's task never reads: outputs, and classes. What is left says the same as before."""
