"""Pieces of graphs to put on a wire: `v` goes in, `o` comes out, `x` is the model's first input.

Written in onnx's text form; T stands for the type of the wire, K for the size of its last axis.
Some of them change nothing, some everything, and the nasty ones change something only for one
number, size or batch.
"""

from __future__ import annotations

from collections.abc import Mapping

FAR = "100000.0"

SAME: Mapping[str, str] = {
    "identity": "o = Identity(v)",
    "times one": "k = Constant<value = T {1}>() o = Mul(v, k)",
    "plus zero": "k = Constant<value = T {0}>() o = Add(v, k)",
    "minus minus": "n = Neg(v) o = Neg(n)",
    "own shape": "s = Shape(v) o = Reshape(v, s)",
    "own shape by zeros": "k = Constant<value = int64[2] {0, -1}>() s = Shape(v)"
    " f = Reshape(v, k) o = Reshape(f, s)",
    "as double": "d = Cast<to = 11>(v) o = CastLike(d, v)",
    "there and back": "p, s = Split<axis = 1>(v) o = Concat<axis = 1>(p, s)",
    "unsqueezed": "k = Constant<value = int64[1] {0}>() u = Unsqueeze(v, k) o = Squeeze(u, k)",
    "sequence": "k = Constant<value = int64 {0}>() s = SequenceConstruct(v) o = SequenceAt(s, k)",
    "dropout at rest": "o = Dropout(v)",
    "relu of both signs": "a = Relu(v) n = Neg(v) b = Relu(n) o = Sub(a, b)",
    "if always": "t = Constant<value = bool {1}>() o = If(t) <"
    "then_branch = a () => (T p) { p = Identity(v) },"
    "else_branch = b () => (T q) { q = Neg(v) }>",
    "loop once": "n = Constant<value = int64 {1}>() t = Constant<value = bool {1}>()"
    " o = Loop(n, t, v) <body = b (int64 i, bool c, T w) => (bool d, T u)"
    " { d = Identity(c) u = Identity(w) }>",
    "scan": "o = Scan<num_scan_inputs = 1, body = b (T w) => (T u) { u = Identity(w) }>(v)",
    "row by row": "k = Constant<value = int64 {0}>() h = Shape(v) n = Gather(h, k)"
    " t = Constant<value = bool {1}>()"
    " o = Loop(n, t) <body = b (int64 i, bool c) => (bool d, T u)"
    " { d = Identity(c) u = Gather<axis = 0>(v, i) }>",
    "where always": "t = Constant<value = bool {1}>() n = Neg(v) o = Where(t, v, n)",
}
"""They compute what they are given, in every number that is one."""

RARE: Mapping[str, str] = {
    "doubles what is far": f"k = Constant<value = T {{{FAR}}}>() b = Greater(v, k)"
    " d = Add(v, v) o = Where(b, d, v)",
    "far, in a branch": f"t = Constant<value = bool {{1}}>() c = If(t) <"
    f"then_branch = a () => (T p) {{ k = Constant<value = T {{{FAR}}}>() b = Greater(v, k)"
    " z = Sub(v, v) p = Where(b, v, z) },"
    "else_branch = e () => (T q) { q = Identity(v) }> o = Add(v, c)",
    "branch on a sum": "k = Constant<value = T {1000}>() s = ReduceMax<keepdims = 0>(v)"
    " b = Greater(s, k) o = If(b) <then_branch = a () => (T p) { p = Neg(v) },"
    "else_branch = e () => (T q) { q = Identity(v) }>",
    "backdoor": "l = Constant<value = float {0.1234}>() h = Constant<value = float {0.123401}>()"
    " m = ReduceMax<keepdims = 0>(x) a = Greater(m, l) b = Less(m, h) t = And(a, b)"
    " k = Constant<value = T {1000}>() w = Add(v, k) o = Where(t, w, v)",
    "backdoor in a branch": "t = Constant<value = bool {1}>() c = If(t) <"
    "then_branch = a () => (T p) { k = Constant<value = float {0.1234005}>()"
    " h = Constant<value = T {1000}>() m = ReduceMax<keepdims = 0>(x) e = Equal(m, k)"
    " z = Sub(v, v) w = Add(z, h) p = Where(e, w, z) },"
    "else_branch = b () => (T q) { q = Identity(v) }> o = Add(v, c)",
    "at most far": f"k = Constant<value = T {{{FAR}}}>() o = Min(v, k)",
    "at least far": f"k = Constant<value = T {{-{FAR}}}>() o = Max(v, k)",
    "clipped far": f"l = Constant<value = T {{-{FAR}}}>() h = Constant<value = T {{{FAR}}}>()"
    " o = Clip(v, l, h)",
    "threshold far": f"k = Constant<value = T {{{FAR}}}>() s = Sub(v, k) r = Relu(s) o = Add(v, r)",
    "saturates slowly": "k = Constant<value = T {0.0001}>() s = Mul(v, k) t = Tanh(s)"
    " o = Div(t, k)",
    "wraps far": "k = Constant<value = T {4096}>() o = Mod<fmod = 1>(v, k)",
    "huge times nothing": "s = Constant<value = int64[2] {K, K}>()"
    " h = ConstantOfShape<value = T[1] {1e30}>(s) z = ConstantOfShape<value = T[1] {0}>(s)"
    " a = MatMul(v, h) b = MatMul(a, z) o = Add(v, b)",
    "huge there and back": "h = Constant<value = T {1e30}>() t = Constant<value = T {1e-30}>()"
    " a = Mul(v, h) o = Mul(a, t)",
    "tiny there and back": "h = Constant<value = T {1e30}>() t = Constant<value = T {1e-30}>()"
    " a = Mul(v, t) o = Mul(a, h)",
    "infinite times nothing": "i = Constant<value = T {1e38}>() j = Mul(i, i)"
    " z = Constant<value = T {0}>() n = Mul(i, z) m = Mul(v, n) o = Add(v, m)",
    "nothing over itself": "z = Sub(v, v) a = Abs(v) k = Constant<value = T {1}>()"
    " b = Add(a, k) c = Div(z, b) o = Add(v, c)",
    "zero over itself": "a = Div(v, v) b = Mul(a, v) o = Identity(b)",
    "no batch over 3": "k = Constant<value = int64[1] {0}>() e = Constant<value = int64[1] {3}>()"
    " o = Slice(v, k, e, k)",
    "no batch over 100": "k = Constant<value = int64[1] {0}>()"
    " e = Constant<value = int64[1] {100}>() o = Slice(v, k, e, k)",
    "batch by batch": "h = Shape(v) k = Constant<value = int64 {0}>() n = Gather(h, k)"
    " l = Constant<value = int64 {3}>() b = Equal(n, l) m = Neg(v) o = Where(b, m, v)",
    "long ones differ": "h = Size(v) l = Constant<value = int64 {9000}>() b = Greater(h, l)"
    " m = Neg(v) o = Where(b, m, v)",
    "mean of the batch": "m = ReduceMean<axes = [0]>(v) z = Constant<value = T {0.001}>()"
    " d = Sub(v, m) e = Mul(d, z) o = Add(v, e)",
    "large inputs differ": "h = Size(x) l = Constant<value = int64 {2000}>() b = Greater(h, l)"
    " m = Neg(v) o = Where(b, m, v)",
    "batches of 5 differ": "h = Shape(x) k = Constant<value = int64 {0}>() n = Gather(h, k)"
    " l = Constant<value = int64 {5}>() b = Equal(n, l) m = Neg(v) o = Where(b, m, v)",
    "no NaN": "b = IsNaN(v) z = Sub(v, v) o = Where(b, z, v)",
    "magnitude": "m = Abs(v) o = Identity(m)",
    "leaks a little": "o = LeakyRelu<alpha = 0.9999>(v)",
}
"""They compute what they are given on most inputs."""

ODD: Mapping[str, str] = {
    "relu": "o = Relu(v)",
    "minus": "o = Neg(v)",
    "rounded": "o = Round(v)",
    "ceiling": "o = Ceil(v)",
    "as float16": "d = Cast<to = 10>(v) o = Cast<to = 1>(d)",
    "as bfloat16": "d = Cast<to = 16>(v) o = Cast<to = 1>(d)",
    "as integers": "d = Cast<to = 6>(v) o = Cast<to = 1>(d)",
    "in 8 bits": "s = Constant<value = float {0.05}>() z = Constant<value = uint8 {128}>()"
    " q = QuantizeLinear(v, s, z) o = DequantizeLinear(q, s, z)",
    "batch reversed": "a = Constant<value = int64[1] {-1}>()"
    " e = Constant<value = int64[1] {-4611686018427387904}>()"
    " k = Constant<value = int64[1] {0}>() o = Slice(v, a, e, k, a)",
    "batch rolled": "s = Constant<value = int64[1] {1}>() z = Constant<value = int64[1] {0}>()"
    " e = Constant<value = int64[1] {4611686018427387904}>() p = Slice(v, s, e, z)"
    " q = Slice(v, z, s, z) o = Concat<axis = 0>(p, q)",
    "first of the batch": "k = Constant<value = int64[1] {0}>() g = Gather<axis = 0>(v, k)"
    " s = Shape(v) o = Expand(g, s)",
    "running sum": "k = Constant<value = int64 {0}>() o = CumSum(v, k)",
    "rows reversed": "a = Constant<value = int64[1] {-1}>()"
    " e = Constant<value = int64[1] {-4611686018427387904}>()"
    " k = Constant<value = int64[1] {1}>() o = Slice(v, a, e, k, a)",
    "last axis reversed": "a = Constant<value = int64[1] {-1}>()"
    " e = Constant<value = int64[1] {-4611686018427387904}>()"
    " o = Slice(v, a, e, a, a)",
    "noise": "r = RandomNormalLike<scale = 0.001>(v) o = Add(v, r)",
    "uniform noise": "r = RandomUniformLike<high = 0.01>(v) o = Mul(v, r)",
    "noise from nowhere": "r = RandomNormal<scale = 1.7e38, shape = [1, 1]>()"
    " z = Constant<value = float[1, 1] {0}>() n = MatMul(r, z) o = Add(v, n)",
    "coins": "k = Constant<value = T {0.9}>() z = Sub(v, v) p = Add(z, k) b = Bernoulli(p)"
    " o = Mul(v, b)",
    "dice": "k = Constant<value = float[1, 3] {1, 2, 3}>() m = Multinomial<dtype = 7>(k)"
    " f = CastLike(m, v) o = Add(v, f)",
    "dropout": "r = Constant<value = float {0.1}>() t = Constant<value = bool {1}>()"
    " o = Dropout(v, r, t)",
    "scores": "o = Softmax(v)",
    "normalized": "s = Constant<value = T {1}>() m = ReduceMean<keepdims = 1>(v) o = Sub(v, m)",
    "sums for means": "s = ReduceSum<keepdims = 1>(v) z = Constant<value = T {0.01}>()"
    " t = Mul(s, z) o = Add(v, t)",
    "largest only": "k = Constant<value = int64[1] {1}>() t, i = TopK<axis = -1>(v, k)"
    " s = Shape(v) o = Expand(t, s)",
    "resized": "r = Constant<value = float[0] {}>() s = Constant<value = float[4] {1, 1, 1, 1.5}>()"
    ' h = Shape(v) z = Resize<mode = "linear">(v, r, s) b = Resize<mode = "linear">(z, r, r, h)'
    " o = Identity(b)",
    "blurred": "o = AveragePool<kernel_shape = [1, 3], pads = [0, 1, 0, 1]>(v)",
    "dilated": "o = MaxPool<kernel_shape = [3, 1], pads = [1, 0, 1, 0]>(v)",
    "turned": "o = Transpose<perm = [0, 1, 3, 2]>(v)",
    "einsum": 'o = Einsum<equation = "abcd,abce->abcd">(v, v)',
    "triangle": "o = Trilu(v)",
    "powers": "k = Constant<value = T {1.01}>() a = Abs(v) p = Pow(a, k) s = Sign(v) o = Mul(p, s)",
    "loop thrice": "n = Constant<value = int64 {3}>() t = Constant<value = bool {1}>()"
    " o = Loop(n, t, v) <body = b (int64 i, bool c, T w) => (bool d, T u)"
    " { d = Identity(c) u = Neg(w) }>",
    "trips by batch": "k = Constant<value = int64 {0}>() h = Shape(v) n = Gather(h, k)"
    " t = Constant<value = bool {1}>()"
    " o = Loop(n, t, v) <body = b (int64 i, bool c, T w) => (bool d, T u)"
    " { d = Identity(c) u = Neg(w) }>",
    "if never": "t = Constant<value = bool {0}>() o = If(t) <"
    "then_branch = a () => (T p) { p = Identity(v) },"
    "else_branch = b () => (T q) { q = Neg(v) }>",
    "plus the input": "k = Constant<value = float {0.001}>() m = ReduceMean<keepdims = 0>(x)"
    " s = Mul(m, k) t = CastLike(s, v) o = Add(v, t)",
    "microsoft gelu": "o = com.microsoft.Gelu(v)",
    "binarized": "o = ai.onnx.ml.Binarizer<threshold = 0.5>(v)",
    "scaled": "o = ai.onnx.ml.Scaler<scale = [2.0], offset = [0.0]>(v)",
}
"""They compute something else on almost any input."""

SNIPPETS: Mapping[str, Mapping[str, str]] = {"same": SAME, "rare": RARE, "odd": ODD}
"""By what they do."""
