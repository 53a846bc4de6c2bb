"""Measured beside published figures: claims, tables and an HTML page."""
