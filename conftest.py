"""Loads the plugin, so that pytest works here without an installed package; nothing else."""

pytest_plugins = ["cilium_e2e.plugin"]
