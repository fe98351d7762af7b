"""The commands that need no cluster; the command line wires them."""
