"""Searches for weights by a loss that is handed in, one a file; none of them knows of models or files."""
