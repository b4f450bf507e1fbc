"""A model of everything around the three cores: a store, links, clocks, and shells without tasks.

One real scheduler core (or two, one of which leads), the agents' cores and the streams' cores run in it. The shells
here do what the real ones do, step by step, in whatever order a test says; nothing runs by itself.
"""
