"""Measurement tools that write records and are run manually."""
