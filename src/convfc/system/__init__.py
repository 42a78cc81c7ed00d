"""The process and the machine: memory, signals, streams, folders, files that appear whole."""
