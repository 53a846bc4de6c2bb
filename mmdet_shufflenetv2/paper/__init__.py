"""What was measured beside what was published: claims, tables, a page."""
