"""How fast converted models are, in how much memory, and how fast convfc is: `make benchmark`."""
