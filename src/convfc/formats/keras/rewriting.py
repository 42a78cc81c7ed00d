"""A convolution layer becomes a small model of patches + Dense, and a model gets them in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from convfc.core.arrays import to_first, to_last
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.whole import Form
from convfc.formats.keras.archive import ZIP
from convfc.formats.keras.carried_settings import left_out, taken_over
from convfc.formats.keras.convolutions import TRANSPOSED, WeightedConvolution, lowered
from convfc.formats.keras.internals import flat_layers
from convfc.formats.keras.keras_ops import KerasOps
from convfc.formats.keras.layer_ops import CarriedSettings, StockOps
from convfc.formats.keras.linear import ELEMENTWISE
from convfc.formats.keras.sites import bias_goes_astray, is_graph, is_normed, shows_calls

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""


def replacement(
    layer: Layer, lowering: Lowering, file_format: str, *, ends_masks: bool
) -> tuple[Layer, list[str]]:
    """The model that computes what one convolution layer computes, with its weights.

    Args:
        layer: a convolution layer.
        lowering: how it is to be computed.
        file_format: where it will be saved.
        ends_masks: whether a mask may come in; a convolution does not hand it on.

    Returns:
        The model, named like the layer, and what it could not keep of the layer, in words.
    """
    chain = lowered(layer, lowering)
    dense = lowering.form is Form.DENSE
    rank = lowering.convolution.rank
    channels_last = layer.data_format == "channels_last"
    last = chain[-1][1]
    # A Dense carries the activation where its rows are the convolution's own positions and the
    # activation looks at one of them at a time. It would divide a penalty on its output by the
    # rows of its matrix instead of the samples.
    fused = channels_last and last.inner.groups == max(last.convolution.phases) == 1
    fused = fused and _sees_one_position(layer.activation)
    if dense:  # its rows are all positions
        fused = layer.activation in (keras.activations.linear, *ELEMENTWISE)
    fused = fused and layer.activity_regularizer is None
    output = {
        "activation": layer.activation,
        "activity_regularizer": layer.activity_regularizer,
    }
    remarks: list[str] = []
    kind = KerasOps if file_format == ZIP else StockOps
    ops = kind(layer.name, layer.dtype_policy, rank)

    shape = [*lowering.sizes, lowering.convolution.channels]
    inputs = x = keras.Input(
        shape if channels_last else [shape[-1], *shape[:-1]],
        dtype=layer.compute_dtype,
        name=f"{layer.name}_input",
    )
    if ends_masks and lowering.method is PatchMethod.NONE and not dense:
        # A Dense alone would hand the mask on; a layer that changes nothing does not.
        x = ops.transpose(x, range(rank + 2))
    if dense:
        x = ops.reshape(x, [lowering.inner.patch_length])
    elif not channels_last:
        x = ops.transpose(x, to_last(rank + 2))
    for weighted, its in chain:
        ends = output if fused and its is last else {}
        ops.weigh(_carried(layer, weighted, its.form, ends, remarks))
        x = ops.whole_product(x, its.filter_matrix) if dense else apply(ops, x, its)
    if dense:
        filters = last.convolution.filters
        x = ops.reshape(x, [*last.output, filters] if channels_last else [filters, *last.output])
    elif not channels_last:
        x = ops.transpose(x, to_first(rank + 2))
    linear = layer.activation is keras.activations.linear
    if not fused and not (linear and layer.activity_regularizer is None):
        x = ops.layer(layers.Activation, **output)(x)
    if bias_goes_astray(layer, lowering.sizes) is None:
        remarks.append(
            f"{layer.name}: where its last axis is as long as its filters are many, Keras on "
            "TensorFlow adds its bias along that; the converted layer adds it to the filters."
        )
    made = keras.Model(inputs, x, name=layer.name)
    values = [
        value
        for weighted, its in chain
        for value in weighted.inner_weights(its, channels_first=not channels_last)
    ]
    # An activation with weights of its own comes last, and is the layer's own.
    for value, weight in zip(values, made.weights[: len(values)], strict=True):
        weight.assign(keras.ops.reshape(value, weight.shape))
    made.trainable = layer.trainable
    return made, remarks


def _sees_one_position(activation: Any) -> bool:
    """Whether it makes of the filters of one position as many numbers, and looks no further.

    All functions of Keras do, but for the gate that halves the filters. A layer may look along
    any axis and have weights for some of them, and nobody knows what a person's own one does.
    """
    stock = any(activation is function for function in vars(keras.activations).values())
    return stock and activation is not keras.activations.glu


def _carried(
    layer: Layer,
    weighted: WeightedConvolution,
    form: Form,
    output: Mapping[str, Any],
    remarks: list[str],
) -> CarriedSettings:
    """What the layer with the same weights takes over; remarks are added to the list."""

    def settings(kernel: tuple[int, ...], bias: tuple[int, ...]) -> dict[str, Any]:
        if form is Form.DENSE:
            # Random numbers take as long as the matrix is large, an orthogonal one for ever.
            kept, left = {"kernel_initializer": "zeros"}, left_out(layer, weighted)
        else:
            kept, left = taken_over(layer, weighted, kernel, bias)
        remarks.extend(left)
        return {**kept, "use_bias": weighted.bias is not None, **output}

    return settings


def rewrite(
    model: Layer,
    replaced: Mapping[int, Layer],
    *,
    dense: bool = False,
    weights: Mapping[int, Any] | None = None,
) -> tuple[Layer, list[str]]:
    """A model with some of its layers, at any depth, replaced by others.

    All other layers are the model's own: it is used up.

    Args:
        model: a stock Sequential or Functional model.
        replaced: by the `id` of a layer, what takes its place, with weights of the same bytes;
            at least one.
        dense: whether these are in the dense form.
        weights: on the way back, by the `id` of a weight of what is replaced, the one that has
            its bytes.

    Returns:
        The new model, compiled as the old one, and what could not be kept, in words.
    """
    taken: dict[int, Layer] = dict(replaced)
    remarks: list[str] = []
    flags = [(layer, layer.trainable) for layer in flat_layers(model)]
    heedless = [layer for layer in replaced.values() if not isinstance(layer, keras.Model)]
    trained = model.trainable_variables
    compiled = model.get_compile_config() if model.compiled else None
    # Compiled below, when everything that it looks at is in its place.
    model.compiled = False

    def copied(layer: Layer) -> Layer:
        if id(layer) not in taken:
            taken[id(layer)] = cloned(layer) if touched(layer) else layer
        return taken[id(layer)]

    def called(layer: Layer, *args: Any, **kwargs: Any) -> Any:
        if layer in heedless:  # it is not told of a mask, as the model in its place was
            kwargs.pop("mask", None)
        return layer(*args, **kwargs)

    def touched(layer: Layer) -> bool:
        return shows_calls(layer) and any(id(inner) in replaced for inner in flat_layers(layer))

    def cloned(outer: Layer) -> Layer:
        if is_graph(outer):
            given = {} if isinstance(outer, keras.Sequential) else {"call_function": called}
            return keras.models.clone_model(outer, clone_function=copied, **given)
        if is_normed(outer):
            inner = copied(outer.layer)
            remarks.append(f"{outer.name}: it trains on without the norm of its kernel.")
            return keras.Model(inner.inputs, inner.outputs, name=outer.name)
        config = {"name": outer.name, "dtype": outer.dtype_policy}
        return layers.TimeDistributed(copied(outer.layer), **config)

    made = copied(model)
    # Outer flags are set before inner ones, which they overwrite.
    for layer, flag in flags:
        made_of: Any = taken.get(id(layer), layer)
        made_of.trainable = flag
    if compiled is None:
        return made, remarks
    if model.optimizer.built and not dense:
        made.compile_from_config(compiled)
    else:
        # That would build an optimizer: for Adam twice the weights, of which nothing is known, or
        # of matrices that no state fits.
        made.compile(**keras.saving.deserialize_keras_object(compiled))
    if dense:
        names = [layer.name for layer, _ in flags if id(layer) in replaced]
        told = [f"{name}: {TRAINS_AS_A_WHOLE}" for name in names]
        return made, [*remarks, *told, FRESH]
    pairs = [(layer, replaced[id(layer)]) for layer, _ in flags if id(layer) in replaced]
    phased = [layer.name for layer, _ in pairs if isinstance(layer, TRANSPOSED)]
    back = weights is not None
    if weights is None:
        orders = ((old.weights, new.weights) for old, new in pairs)
        weights = {id(a): b for old, new in orders for a, b in zip(old, new, strict=True)}
    expected = [id(weights.get(id(weight), weight)) for weight in trained]
    same = not phased and expected == [id(weight) for weight in made.trainable_variables]
    carried = same and _carry(model.optimizer, made.optimizer)
    remarks += [f"{name}: each phase of its stride trains on by itself." for name in phased]
    if carried or (back and not int(model.optimizer.iterations)):
        return made, remarks
    return made, [*remarks, FRESH]


TRAINS_AS_A_WHOLE = "its matrix trains on as a whole, zeros and repeated weights, too."
FRESH = "The optimizer's state depends on the shapes of the weights; it starts afresh."


def _carry(old: Any, new: Any) -> bool:
    """Give an optimizer the state of another one; false if it does not fit, by size."""
    if not old.built:
        return True
    if [_size(v) for v in old.variables] != [_size(v) for v in new.variables]:
        return False
    for before, after in zip(old.variables, new.variables, strict=True):
        after.assign(keras.ops.reshape(before, after.shape))
    return True


def _size(variable: Any) -> int:
    return math.prod(variable.shape)
