"""What a person asks of a model: the Llama object and its verbs."""
