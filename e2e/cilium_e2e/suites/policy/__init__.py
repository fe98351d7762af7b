"""The policy suite: scenarios as data, and the demo policy's own tests."""
