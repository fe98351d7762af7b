"""The composer: from options to a cluster with Cilium ready on it, and back to nothing."""

from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options

__all__ = ["Handle", "Options"]
