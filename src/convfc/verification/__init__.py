"""Whether a converted model is the same function: proof, comparison, verdict."""
