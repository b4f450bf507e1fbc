"""Networks on a smaller image: made smaller by the network's own first layer, so that all else stays as it is.

For networks that take an image of any size and whose outputs do not say places in it.
"""
