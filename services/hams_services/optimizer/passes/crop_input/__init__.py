"""Networks without the padding of letterboxed images: they look at the rectangle that the group's images fill.

What they would have said of the padding is always about the same, and is written into the network.
"""
