"""What files say, made fit for people and programs to read."""
