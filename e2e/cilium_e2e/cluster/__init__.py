"""Clusters: kind, existing ones, and what all of them need."""
