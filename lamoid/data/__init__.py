"""Text files, the token shards made of them, and the batches read from those."""
