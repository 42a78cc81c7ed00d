"""Tensors whose sizes are unknown: what a lowering computes, for every size at once."""
