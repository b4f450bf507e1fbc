"""How large a box has to be: memory, CPU and network of each part, measured."""
