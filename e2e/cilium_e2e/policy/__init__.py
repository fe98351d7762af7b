"""The policy oracle: pure, no I/O; who may talk to whom under Cilium's semantics."""
