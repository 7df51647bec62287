"""Fusion rules, one a file; the table of them is at the bottom of table.py."""
