"""A model's convolutions as matrices: read, measured, fed, and given other numbers."""
