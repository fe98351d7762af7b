"""The cluster itself: nodes, agents, configuration, Flux, the README's commands.

A package, so that pytest imports its files under their full names and not as ``platform``, which is Python's.
"""
