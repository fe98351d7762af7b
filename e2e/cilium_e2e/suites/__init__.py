"""The suites that every run has: test files that read like the README they prove."""
