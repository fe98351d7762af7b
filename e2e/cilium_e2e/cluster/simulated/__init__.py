"""A cluster in memory: the Kubernetes API, Flux, Cilium and Hubble, as far as probes and suites see them."""

from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.simulation import Simulation

__all__ = ["Hooks", "Simulation"]
