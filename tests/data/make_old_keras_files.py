"""Writes the models of old_keras.zip: run it with an old Keras or TensorFlow, in a folder.

    python make_old_keras_files.py            # tensorflow 2.x, its own keras
    python make_old_keras_files.py --keras    # standalone keras 2.x
    python make_old_keras_files.py --tf-keras # tf_keras, what became of Keras 2

Each model is written as `<name>_<keras version>.h5` (and `.keras`, from 2.12 on), beside an
`.npz` with inputs i0, i1, .. and the outputs o0, o1, .. that this Keras computed for them.
It runs on Python 3.6, so it is written for that.
"""

import sys
from pathlib import Path

import numpy as np

if "--keras" in sys.argv:
    import keras

    version = keras.__version__
elif "--tf-keras" in sys.argv:
    import os

    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tf_keras as keras

    version = keras.__version__
else:
    import tensorflow as tf
    from tensorflow import keras

    newer = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 6)
    version = (__import__("keras") if newer else keras).__version__.replace("-tf", "")

layers = keras.layers
rng = np.random.RandomState(0)


def integers(*shape):
    return rng.randint(-3, 4, shape).astype("float32")


def write(name, model, *inputs, **more):
    values = []
    for variable, value in zip(model.weights, model.get_weights()):
        low = 1 if "variance" in variable.name else -2
        values.append(rng.randint(low, 3, value.shape).astype("float32"))
    model.set_weights(values)
    outputs = model.predict(list(inputs))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    arrays = {"i%d" % i: x for i, x in enumerate(inputs)}
    arrays.update({"o%d" % i: y for i, y in enumerate(outputs)})
    np.savez("%s_%s.npz" % (name, version), **arrays)
    model.save("%s_%s.h5" % (name, version))
    if tuple(map(int, version.split(".")[:2])) >= (2, 12) and more.get("zipped", True):
        model.save("%s_%s.keras" % (name, version))


def mobile():
    image = layers.Input((9, 8, 2), name="image")
    x = layers.Conv2D(3, (3, 2), strides=(2, 2), padding="same", use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D((3, 2), padding="same", depth_multiplier=2)(x)
    x = layers.LeakyReLU(alpha=0.5)(x)
    x = layers.SeparableConv2D(4, (2, 3), depth_multiplier=2)(x)
    x = layers.Dropout(0.5)(x)
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(3, kernel_initializer="he_normal", kernel_regularizer="l2")(x)
    model = keras.Model(image, y)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(integers(4, 9, 8, 2), integers(4, 3), verbose=0)
    write("mobile", model, integers(4, 9, 8, 2))


def nested():
    left, right = layers.Input((6, 5, 2), name="left"), layers.Input((6, 5, 2), name="right")
    inside = layers.Input((6, 5, 2))
    inner = keras.Model([inside], [layers.Conv2D(3, 2, activation="relu")(inside)], name="inner")
    conv = layers.Conv2D(2, 2, padding="same", input_shape=(5, 4, 3))
    stack = keras.Sequential([conv, layers.Activation("relu")], name="stack")
    shared = layers.Conv2D(3, 1, name="block/shared")
    x = layers.Add(name="scope/add")([shared(stack(inner(left))), shared(stack(inner(right)))])
    a, b = layers.Input((5, 4, 3)), layers.Input((5, 4, 3))
    two = keras.Model([a, b], [layers.Multiply()([a, b]), layers.Conv2D(2, 3)(b)], name="two")
    p, q = two([x, x])
    model = keras.Model([left, right], [layers.Flatten()(p), layers.Flatten()(q)])
    write("nested", model, integers(2, 6, 5, 2), integers(2, 6, 5, 2))


def timed():
    conv = layers.Conv2D(2, 2, activation="relu")
    model = keras.Sequential()
    model.add(layers.TimeDistributed(conv, input_shape=(4, 6, 5, 1)))
    model.add(layers.TimeDistributed(layers.Flatten()))
    model.add(layers.Bidirectional(layers.LSTM(3, return_sequences=True)))
    model.add(layers.GRU(2))
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    write("timed", model, integers(2, 4, 6, 5, 1))


def transposed():
    model = keras.Sequential()
    model.add(layers.Dense(24, input_shape=(3,)))
    model.add(layers.Reshape((3, 4, 2)))
    model.add(layers.Conv2DTranspose(3, (4, 3), strides=(2, 3), padding="same", name="up"))
    model.add(layers.Conv2DTranspose(2, 3, strides=2, name="up2"))
    model.add(layers.Activation("tanh"))
    model.compile("sgd", "mse")
    write("transposed", model, integers(2, 3))


def operations():
    image = layers.Input((6, 5, 2))
    x = layers.Conv2D(3, 2)(image)
    x = tf.nn.relu(x * 2.0 + 1.0) - x
    x = tf.concat([x, 3.0 - x], axis=-1)
    x = tf.transpose(tf.pad(x, [[0, 0], [1, 1], [0, 1], [0, 0]]), [0, 2, 1, 3])
    y = tf.reshape(x, (-1, 5 * 7 * 6))
    x = tf.reduce_mean(x, axis=[1, 2])
    model = keras.Model(image, [layers.Dense(2)(x / 4.0), layers.Dense(2)(y)])
    write("operations", model, integers(2, 6, 5, 2))


def recurrent():
    words = layers.Input((7,), dtype="int32")
    x = layers.Embedding(9, 4, input_length=7)(words)
    x = layers.Conv1D(3, 3, padding="causal", dilation_rate=2)(x)
    x = layers.SpatialDropout1D(0.2)(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.LSTM(3, return_sequences=True)(x)
    x = layers.GRU(3)(x)
    x = layers.PReLU()(x)
    limit = keras.constraints.MaxNorm(2)
    model = keras.Model(words, layers.Dense(1, activation="sigmoid", kernel_constraint=limit)(x))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    model.compile(optimizer, "binary_crossentropy", metrics=["acc"])
    write("recurrent", model, rng.randint(0, 9, (2, 7)).astype("int32"))


def slices():
    image = layers.Input((8, 7, 2))
    x = layers.Conv2D(4, 2, padding="same")(image)
    every = layers.Conv2D(2, 2)(x[:, 1:6, ::2])
    new = x[:, tf.newaxis, 2:-1, 3]
    rows = layers.Dense(2)(x[:, 0])
    model = keras.Model(image, [every, x[:, :, :, :2][:, -5:], rows, new])
    write("slices", model, integers(2, 8, 7, 2))


def masked():
    steps = layers.Input((6, 2))
    x = layers.Masking()(steps)
    ended = [layers.LSTM(3)(layers.Conv1D(3, width)(x)) for width in (1, 2)]
    values = integers(2, 6, 2)
    values[:, 3:] = 0
    write("masked", keras.Model(steps, [layers.LSTM(3)(x), *ended]), values)


def attention():
    steps = layers.Input((6, 2))
    x = layers.Conv1D(4, 2, padding="same")(steps)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.Attention()([x, x])
    write("attention", keras.Model(steps, layers.SpatialDropout1D(0.1)(x)), integers(2, 6, 2))


def mixed():
    mixed_precision = keras.mixed_precision
    if not hasattr(mixed_precision, "Policy"):
        mixed_precision = mixed_precision.experimental
    policy = mixed_precision.Policy("mixed_float16")
    image = layers.Input((6, 5, 2))
    x = layers.Conv2D(3, 2, dtype=policy)(image)
    x = layers.ThresholdedReLU(2.0)(x)
    write(
        "mixed", keras.Model(image, layers.Conv2D(2, 2, dtype="float32")(x)), integers(2, 6, 5, 2)
    )


def more_operations():
    image = layers.Input((6, 5, 2))
    x = tf.nn.leaky_relu(layers.Conv2D(3, 2)(image), 0.5)
    x = tf.image.resize(tf.nn.elu(x), (7, 9))
    x = tf.minimum(x, 6.0)
    write("more", keras.Model(image, [x, tf.reduce_max(x, axis=[1, 2])]), integers(2, 6, 5, 2))


def augmented():
    image = layers.Input((9, 7, 3))
    x = layers.RandomFlip("horizontal")(image)
    x = layers.RandomContrast(0.1)(layers.RandomZoom(0.1)(layers.RandomRotation(0.1)(x)))
    x = layers.RandomBrightness(0.1)(layers.RandomTranslation(0.1, 0.2)(x))
    crop = layers.RandomCrop(4, 6)(x)
    x = layers.RandomWidth(0.1)(layers.RandomHeight(0.1)(x))
    ended = [layers.Conv2D(4, 3)(layers.Rescaling(1 / 4.0)(y)) for y in (x, crop)]
    write("augmented", keras.Model(image, ended), integers(2, 9, 7, 3))


def convnext():
    from tf_keras.src.applications import convnext as module

    model = module.ConvNeXt(
        depths=[1, 1, 1, 1],
        projection_dims=[2, 3, 4, 2],
        drop_path_rate=0.1,
        include_preprocessing=False,
        weights=None,
        include_top=False,
        input_shape=(32, 32, 3),
        model_name="convnext",
    )
    write("convnext", model, integers(2, 32, 32, 3))


def normed():
    norm = layers.SpectralNormalization
    image = layers.Input((6, 5, 2))
    x = norm(layers.Conv2D(4, 2, activation="relu"), power_iterations=2)(image)
    x = norm(layers.Conv2DTranspose(3, 2, strides=2))(x)
    write("normed", keras.Model(image, norm(layers.Dense(2))(x)), integers(2, 6, 5, 2))


def siamese():
    """Functions, as people write them between layers."""
    left, right = layers.Input((6, 5, 2)), layers.Input((6, 5, 2))
    shared = layers.Conv2D(4, 2)
    x, y = shared(left), shared(right)
    apart = tf.subtract(x, y)
    pooled = layers.GlobalMaxPooling2D(keepdims=True)(x)
    outputs = [
        tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(apart), axis=-1, keepdims=True), 1e-7)),
        tf.abs(apart) * tf.constant([1.0, 2.0, 3.0, 4.0]),
        tf.norm(apart, axis=-1),
        tf.norm(x, axis=[1, 2]),
        tf.math.l2_normalize(tf.reduce_mean(x, axis=1, keepdims=True), axis=-1),
        tf.squeeze(pooled, axis=[1, 2]) / tf.math.exp(tf.reduce_max(y, axis=[1, 2]) * 0.01),
        tf.expand_dims(-x, axis=-1),
        tf.split(x, 2, axis=-1)[1],
        tf.split(y, [1, 3], axis=2)[0],
        tf.math.log(tf.abs(x) + 1.0) ** 2,
        tf.stack([x, y], axis=1),
        tf.unstack(x, axis=-1)[2],
        tf.tile(x, [1, 1, 2, 1]),
        tf.nn.depth_to_space(x, 2),
        tf.clip_by_value(x, -1.0, 2.0),
        tf.add_n([x, y, x]),
        tf.nn.softmax(x, axis=1),
        tf.nn.gelu(x),
        tf.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], mode="REFLECT"),
        tf.reverse(tf.roll(tf.identity(x), 1, 1), [2]),
        tf.gather(x, [0, 2], axis=-1),
        tf.nn.bias_add(tf.stop_gradient(y), [1.0, 2.0, 3.0, 4.0]),
        tf.pad(x, [[0, 0], [0, 1], [0, 0], [0, 0]], constant_values=2.0),
        tf.math.rsqrt(tf.square(x) + 1.0),
    ]
    model = keras.Model([left, right], outputs)
    write("siamese", model, integers(2, 6, 5, 2), integers(2, 6, 5, 2))


def beside(shape):
    return tf.constant(integers(*shape))


def constants():
    """Functions of lists, conditions and constants, and the last axes of a tensor."""
    image = layers.Input((6, 5, 2), batch_size=2)
    x = layers.Conv2D(4, 2, name="conv")(image)
    like = (2, 5, 4, 4)
    numbers = integers(*like).tolist()
    outputs = [
        tf.concat([x, beside(like)], -1),
        tf.concat([beside((2, 5, 4, 1)), x, beside(like)], axis=3),
        tf.concat([x, numbers], axis=1),
        tf.stack([beside(like), x], axis=1),
        tf.add_n([x, beside(like)]),
        tf.where(x > 0, x, 0.25),
        tf.where(tf.logical_or(x < 1.0, x >= 3.0), beside(like), tf.zeros_like(x)),
        tf.where(tf.logical_and(x <= 1.0, tf.not_equal(x, 0.0)), tf.ones_like(x), x),
        tf.cast(tf.logical_not(tf.equal(x, 2.0)), tf.float32),
        tf.maximum(beside((4,)), x),
        tf.minimum(x, beside((5, 1, 4))),
        tf.round(x / 4.0) + tf.sign(x) + tf.math.floor(x / 2.0) + tf.math.ceil(x / 3.0),
        tf.math.floormod(x, 3.0),
        x // 2.0,
        tf.matmul(x, beside((4, 3))),
        tf.cumsum(x, axis=1),
        tf.math.reduce_std(x, axis=-1, keepdims=True),
        tf.math.reduce_variance(x, axis=[1, 2]),
        tf.reduce_logsumexp(x, axis=-1),
    ]
    write("constants", keras.Model(image, outputs), integers(2, 6, 5, 2))


def dots():
    """Keys with dots, which a `.keras` of Keras 2 cannot hold."""
    image = layers.Input((6, 5, 3))
    x = layers.Rescaling(0.5)(image[..., ::-1])
    x = layers.ReLU()(layers.Conv2D(4, 2)(x[..., 1:]))
    outputs = [x[..., 1:, :], x[:, 1, ..., tf.newaxis], x[:, ::2, ..., 0]]
    write("dots", keras.Model(image, outputs), integers(2, 6, 5, 3), zipped=False)


def nodes():
    """Nodes of TensorFlow, as 2.0 to 2.3 wrote them."""
    from tf_keras.src.engine.base_layer import TensorFlowOpLayer

    image = layers.Input((6, 5, 2))
    x = layers.Conv2D(4, 2)(image)
    count = [0]

    def noted(function, *tensors):
        with tf.Graph().as_default() as graph:
            function(*[tf.compat.v1.placeholder(t.dtype, t.shape) for t in tensors])
            made = [op for op in graph.get_operations() if op.type not in ("Const", "Placeholder")]
        (op,) = made
        constants = {
            index: tf.get_static_value(value).tolist()
            for index, value in enumerate(op.inputs)
            if value.op.type == "Const"
        }
        count[0] += 1
        name = "%s_%d" % (op.type, count[0])
        return TensorFlowOpLayer(op.node_def.SerializeToString(), name, constants)(list(tensors))

    raw = tf.raw_ops

    def enlarged(kind):
        return lambda x: kind(images=x, size=[10, 8], half_pixel_centers=True)

    outputs = [
        noted(lambda x: tf.nn.depth_to_space(x, 2), x),
        noted(lambda x: tf.nn.space_to_depth(x, 2), layers.ZeroPadding2D(((0, 1), (0, 0)))(x)),
        noted(lambda x: raw.Pad(input=x, paddings=[[0, 0], [1, 0], [0, 2], [0, 0]]), x),
        noted(lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 2], [0, 0]], mode="SYMMETRIC"), x),
        noted(
            lambda x: raw.PadV2(input=x, paddings=[[0, 0]] * 3 + [[0, 1]], constant_values=2.0), x
        ),
        noted(tf.add, x, x),
        noted(lambda x, y: tf.concat([x, y], 2), x, noted(lambda x: x * 2.0, x)),
        noted(lambda x: raw.AddV2(x=x, y=1.5), x),
        noted(enlarged(raw.ResizeBilinear), x),
        noted(enlarged(raw.ResizeNearestNeighbor), x),
        noted(lambda x: tf.expand_dims(x, -1), x),
        noted(lambda x: tf.squeeze(x, [1, 2]), layers.GlobalMaxPooling2D(keepdims=True)(x)),
        noted(lambda x: raw.Mean(input=x, axis=[1, 2], keep_dims=True), x),
        noted(lambda x: raw.Sum(input=x, axis=[3]), x),
        noted(tf.nn.relu6, x),
        noted(tf.sigmoid, x),
        noted(lambda x: tf.transpose(x, [0, 3, 1, 2]), x),
        noted(lambda x: raw.Abs(x=x), noted(lambda x: raw.Neg(x=x), x)),
        noted(lambda x: raw.Pow(x=x, y=2.0), x),
        noted(lambda x: tf.split(x, 2, -1), x)[1],
        noted(lambda x: tf.split(x, [1, 3], 2), x)[0],
        noted(lambda x: tf.tile(x, [1, 2, 1, 1]), x),
        noted(lambda x, y: tf.stack([x, y], 1), x, x),
        noted(lambda x: raw.Exp(x=x), x),
        noted(lambda x: raw.ConcatV2(values=[x, integers(2, 5, 4, 1)], axis=3), x),
        noted(lambda x: raw.ConcatV2(values=[integers(2, 1, 4, 4), x], axis=1), x),
        noted(lambda x: raw.Pack(values=[x, integers(2, 5, 4, 4)], axis=1), x),
        noted(lambda x: raw.AddN(inputs=[x, integers(2, 5, 4, 4)]), x),
        noted(lambda x: raw.Maximum(x=x, y=integers(4)), x),
        noted(
            lambda c, x: raw.SelectV2(condition=c, t=x, e=0.5),
            noted(lambda x: raw.Greater(x=x, y=1.0), x),
            x,
        ),
        noted(lambda x: raw.Floor(x=x), noted(lambda x: raw.Mul(x=x, y=0.5), x)),
    ]
    write("nodes", keras.Model(image, outputs), integers(2, 6, 5, 2))


def gates():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="hard_sigmoid", name="conv")(image)
    x = layers.DepthwiseConv2D(3, activation="hard_sigmoid", name="deep")(x)
    x = layers.Activation("hard_sigmoid", name="plain")(layers.Reshape((4, 16))(x))
    x = layers.LSTM(5, recurrent_activation="hard_sigmoid", return_sequences=True, name="lstm")(x)
    gru = layers.GRU(3, "hard_sigmoid", "hard_sigmoid", return_sequences=True, name="gru")
    x = layers.Bidirectional(gru, name="both")(x)
    x = layers.TimeDistributed(layers.Dense(4, "hard_sigmoid", name="dense"), name="timed")(x)
    x = layers.SimpleRNN(3, activation="hard_sigmoid", name="simple")(x)
    write("gates", keras.Model(image, x, name="gates"), integers(3, 8, 8, 3) / 16)


def alone():
    """Weights without their model, in both forms, and what the model looks like."""
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, input_shape=(8, 7, 3)),
            layers.BatchNormalization(),
            layers.Conv2D(2, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="alone",
    )
    write("alone", model, integers(2, 8, 7, 3))
    model.save_weights("alone_%s.h5" % version)
    model.save_weights("alone_%s.weights.h5" % version)
    Path("alone_%s.json" % version).write_text(model.to_json())


if "--tf-keras" in sys.argv:
    for make in (augmented, convnext, normed, siamese, constants, dots, nodes, gates, alone):
        make()
    sys.exit()
for make in (mobile, nested, timed, transposed, recurrent):
    make()
if "--keras" not in sys.argv:
    operations()
    more_operations()
    slices()
    masked()
    mixed()
    if hasattr(layers, "MultiHeadAttention"):
        attention()
