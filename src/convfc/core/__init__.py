"""Convolutions, matrices, and the way from one to the other: numbers and numpy only."""
