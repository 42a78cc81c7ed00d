"""Stock layers along spatial axes without weights, by what they do.

Each tuple but the last has a class for one, two and three spatial axes, in this order.
"""

from __future__ import annotations

from keras import layers

MAXIMUM = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
AVERAGE = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)
GLOBAL_MAXIMUM = (
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
    layers.GlobalMaxPooling3D,
)
GLOBAL_AVERAGE = (
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    layers.GlobalAveragePooling3D,
)
PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
CROPPING = (layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
POOLING = (*MAXIMUM, *AVERAGE)
"""Of both kinds that have windows."""
