"""From validated rows to a trained encoder: builds the objective, runs the net, sets statistics."""
