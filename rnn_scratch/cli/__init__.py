"""The command line; each command module implements one to three commands."""
