"""How a mapped class becomes a mirrored model, and how its rows become lines."""
