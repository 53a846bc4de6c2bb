"""Measurements that can be repeated: timing, environment and records."""
