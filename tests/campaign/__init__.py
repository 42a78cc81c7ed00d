"""Spoiled conversions and true ones, by the thousand; see `__main__`."""
