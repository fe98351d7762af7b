"""End-to-end tests for Cilium on GitOps clusters."""
