"""One layer on one sample, explained: in numbers, on the terminal, as a picture, as a page."""
