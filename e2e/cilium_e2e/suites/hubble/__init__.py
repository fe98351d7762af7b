"""Hubble: each packet seen for what it is; relay and agents restarted; maps, counters, and the command line.

A package, so that its files can share the scene they play in.
"""
