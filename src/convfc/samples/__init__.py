"""What a model is fed.

`files` reads samples; `fed_shapes` settles the sizes of each input, a `Slot`, which `slots` fills;
`feeds` makes of all this `Feeds`, which `batches` cuts into batches.
"""
