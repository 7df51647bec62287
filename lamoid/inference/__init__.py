"""Generation: requests, the choice of the next token, stop strings, and the engine that writes many texts at once."""
