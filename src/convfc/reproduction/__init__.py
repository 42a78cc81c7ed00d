"""The experiment of Ma & Lu (2017), section 5: train a CNN and its twins, compare, draw."""
