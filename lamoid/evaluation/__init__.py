"""Measuring models: losses, intervals, comparisons, reports, pictures."""
