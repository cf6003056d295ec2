"""The command line; each command's module implements one to three commands."""
