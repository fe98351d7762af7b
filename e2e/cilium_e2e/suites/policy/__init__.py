"""The policy suite: cases as data, and what runs them."""
