"""Reading and writing tensors: safetensors files, Hugging Face folders, durable commits."""
