"""Lamoid: assemble, train, fuse, measure and use language models."""
