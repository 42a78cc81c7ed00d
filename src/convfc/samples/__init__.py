"""What a model is fed: files of samples, what fills an input, batches."""
