"""Flux: installed before the CNI, fed with the working tree, awaited, its failures explained."""
