"""Targets of pose frames: one file for each protocol."""
