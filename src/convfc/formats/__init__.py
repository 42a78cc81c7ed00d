"""What a model is, whatever its format; and the two formats."""
