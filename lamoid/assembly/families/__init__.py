"""Known model families as data: a Hugging Face configuration to a spec and back, and a table of tensor names."""
