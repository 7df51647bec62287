"""Make a language model from a description: specs, the modules they build, and their arithmetic."""
