"""The operating system: processes, this machine, and files that survive a crash."""
