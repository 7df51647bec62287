"""From losses to weights, and the weighted sum; imports nothing of this package."""
