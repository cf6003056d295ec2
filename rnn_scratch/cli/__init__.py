"""The command line; each command module implements one or two commands."""
