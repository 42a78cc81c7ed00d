"""What is run in each client's interpreter to put a question to a file, where it is text.

Each is called with three paths: the model file, digits as `.npz` (`images` as rows, `labels`), and
where to put what was found as `.npz`: `images` as rows, and the `logits` or the `classes` that the
client gives them. The answer is what it prints behind a ">".
"""

from __future__ import annotations

from benchmarks.client_programs import AUTO_LIRPA

_BEGIN = """
import sys, time
import numpy as np
path, out = sys.argv[1], sys.argv[3]
digits = np.load(sys.argv[2])
images, labels = digits["images"], digits["labels"]
def say(text):
    print(">", text)
digit, label = images[0], int(labels[0])
def box(eps):
    return np.maximum(digit - eps, 0), np.minimum(digit + eps, 1)
"""
_MARABOU = """
from maraboupy import Marabou
quiet = Marabou.createOptions(verbosity=0)
found, logits = [], []
for eps, others in ((0.01, range(10)), (0.06, [3])):
    for other in (one for one in others if one != label):
        net = Marabou.read_onnx(path)
        pixels, answers = net.inputVars[0].flatten(), net.outputVars[0].flatten()
        for pixel, low, high in zip(pixels, *box(eps)):
            net.setLowerBound(int(pixel), float(low))
            net.setUpperBound(int(pixel), float(high))
        # logits[label] - logits[other] <= 0
        net.addInequality([int(answers[label]), int(answers[other])], [1, -1], 0)
        begun = time.perf_counter()
        verdict, values, _ = net.solve(verbose=False, options=quiet)
        took = time.perf_counter() - begun
        say(f"within {eps} of the {label}, one that is rather a {other}: "
              f"{verdict} ({took:.1f} s)")
        if verdict == "sat":
            found.append([values[int(pixel)] for pixel in pixels])
            logits.append([values[int(answer)] for answer in answers])
np.savez(out, images=found, logits=logits)
"""
_GUROBI = """
import gurobipy, onnx
from gurobi_ml.onnx import add_onnx_constr
other, found, logits = 3, [], []
for eps, enough in ((0.02, None), (0.06, 0.01)):
    model = gurobipy.Model()
    model.Params.OutputFlag = 0
    model.Params.Threads = 1
    if enough is not None:
        model.Params.BestObjStop = enough
    low, high = box(eps)
    pixels = model.addMVar((1, len(digit)), lb=low[None], ub=high[None])
    answers = model.addMVar((1, 10), lb=-gurobipy.GRB.INFINITY)
    add_onnx_constr(model, onnx.load(path), pixels, answers)
    model.setObjective(answers[0, other] - answers[0, label], gurobipy.GRB.MAXIMIZE)
    model.optimize()
    say(f"{model.NumVars} variables, {model.NumConstrs} linear constraints, "
          f"{model.NumGenConstrs} ReLU")
    say(f"within {eps} of the {label}, logit {other} - logit {label} gets to {model.ObjVal:.4f}, "
          f"and never beyond {model.ObjBound:.4f} ({model.Runtime:.1f} s)")
    found.append(pixels.X[0])
    logits.append(answers.X[0])
np.savez(out, images=found, logits=logits)
"""
_GUROBI_KERAS = (
    _GUROBI.replace("gurobipy, onnx", "gurobipy, keras")
    .replace("onnx import add_onnx", "keras import add_keras")
    .replace("add_onnx", "add_keras")
    .replace("onnx.load(path)", "keras.models.load_model(path)")
)
_EMLEARN = """
import pathlib, subprocess
import emlearn, emlearn.common, keras
# Its own reader of samples, for tests, takes 256 numbers; ours takes as many as there are.
main = "static float x[784]; while (fread(x, 4, 784, stdin) == 784) " \\
    'printf("%d ", (int)net_predict(x, 784));'
made = emlearn.convert(keras.models.load_model(path), method="inline")
code = made.save(name="net")
pathlib.Path("net.c").write_text(
    f"#include <stdio.h>\\n{code}\\nint main(void) {{ {main} return 0; }}")
own = emlearn.common.get_include_dir()
subprocess.run(["gcc", "-std=c99", "-O2", "-I", own, "net.c", "-lm", "-o", "net"], check=True)
begun = time.perf_counter()
seen = subprocess.run(["./net"], input=images.tobytes(), capture_output=True, check=True).stdout
took = time.perf_counter() - begun
seen = np.array(seen.split(), int)
say(f"{len(code) / 1e6:.1f} MB of C, {pathlib.Path('net').stat().st_size / 1e6:.1f} MB compiled")
say(f"{(seen == labels).sum()} of {len(labels)} digits are right ({took:.1f} s)")
np.savez(out, images=images, classes=seen)
"""
_OMLT = """
import logging
import onnx, pyomo.environ
logging.getLogger("pyomo").setLevel(logging.ERROR)
from omlt import OmltBlock
from omlt.io import load_onnx_neural_network
from omlt.neuralnet import ReluBigMFormulation
other, eps = 3, 0.01
bounds = {k: (float(low), float(high)) for k, (low, high) in enumerate(zip(*box(eps)))}
net = load_onnx_neural_network(onnx.load(path), input_bounds=bounds)
model = pyomo.environ.ConcreteModel()
model.net = OmltBlock()
model.net.build_formulation(ReluBigMFormulation(net))
margin = model.net.outputs[other] - model.net.outputs[label]
model.margin = pyomo.environ.Objective(expr=margin, sense=pyomo.environ.maximize)
begun = time.perf_counter()
solved = pyomo.environ.SolverFactory("appsi_highs").solve(model)
took = time.perf_counter() - begun
say(f"HiGHS: {solved.solver.termination_condition} ({took:.1f} s)")
say(f"within {eps} of the {label}, logit {other} - logit {label} gets to "
      f"{pyomo.environ.value(margin):.4f}, and never beyond")
value = pyomo.environ.value
np.savez(out, images=[[value(model.net.inputs[k]) for k in range(len(digit))]],
         logits=[[value(model.net.outputs[k]) for k in range(10)]])
"""
_CROWN = """
import torch
import onnx
from onnx2torch import convert
net = convert(path).eval()
port = onnx.load(path).graph.input[0]
given = [size.dim_value for size in port.type.tensor_type.shape.dim]
images = torch.from_numpy(images[:20].reshape(-1, *given[1:]))
# Its 'patches' of gradients take every sum for an image.
bounded = BoundedModule(net, images[:1], bound_opts={"conv_mode": "matrix"})
bounded._parameters["some"] = torch.nn.Parameter(torch.zeros(1))
found, logits = [], []
generator = torch.Generator().manual_seed(0)
for eps in (0.005, 0.01, 0.02):
    certain, broken, begun = 0, 0, time.perf_counter()
    for image, label in zip(images.split(1), labels):
        others = [one for one in range(10) if one != label]
        margins = torch.zeros(1, 9, 10)
        margins[0, range(9), others], margins[:, :, label] = -1, 1
        noise = PerturbationLpNorm(norm=np.inf, eps=eps)
        low, _ = bounded.compute_bounds(
            x=(BoundedTensor(image, noise),), C=margins, method="CROWN")
        certain += bool((low > 0).all())
        signs = torch.randint(2, (500, *image.shape[1:]), generator=generator) * 2 - 1
        with torch.no_grad():
            seen = net(image + eps * signs)
        broken += bool((seen @ margins[0].T < low - 1e-3).any())
    took = time.perf_counter() - begun
    say(f"within {eps}: {certain} of {len(images)} digits stay what they are, for certain "
          f"({took:.0f} s); bounds that one of 500 corners breaks: {broken}")
with torch.no_grad():
    np.savez(out, images=images.reshape(len(images), -1), logits=net(images))
"""
_CONCRETE = """
import onnx
from onnx import version_converter
from concrete.ml.torch.compile import compile_onnx_model
model = version_converter.convert_version(onnx.load(path), 14)  # it takes no other opset
given = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
images = images.reshape(-1, *given[1:])
begun = time.perf_counter()
net = compile_onnx_model(
    model, images[-200:], n_bits=5, p_error=0.01,
    rounding_threshold_bits={"n_bits": 5, "method": "approximate"})
say(f"compiled ({time.perf_counter() - begun:.0f} s): "
      f"{net.fhe_circuit.statistics['programmable_bootstrap_count']} bootstraps, "
      f"{net.fhe_circuit.graph.maximum_integer_bit_width()} bits")
right = int((net.forward(images[:300], fhe="disable").argmax(1) == labels[:300]).sum())
say(f"in 5 bits, not encrypted: {right} of 300 digits right")
begun = time.perf_counter()
net.fhe_circuit.keygen()
say(f"keys ({time.perf_counter() - begun:.0f} s)")
begun = time.perf_counter()
logits = net.forward(images[:1], fhe="execute")
say(f"encrypted, a {label} is seen as a {logits.argmax()} ({time.perf_counter() - begun:.0f} s)")
"""
_HLS4ML = """
import hls4ml, onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model
model = cleanup_model(ModelWrapper(onnx.load(path)))
config = hls4ml.utils.config_from_onnx_model(
    model, granularity="name", default_precision="fixed<16,6>")
made = hls4ml.converters.convert_from_onnx_model(
    model, hls_config=config, output_dir="hls", backend="Vitis", io_type="io_parallel")
begun = time.perf_counter()
made.compile()
say(f"compiled as C++ ({time.perf_counter() - begun:.0f} s)")
logits = made.predict(np.ascontiguousarray(images))
right = int((logits.argmax(1) == labels).sum())
say(f"in fixed point of 16 bits: {right} of {len(images)} digits right")
"""

QUESTIONS = {
    "marabou": _BEGIN + _MARABOU,
    "gurobi": _BEGIN + _GUROBI,
    "gurobi-keras": _BEGIN + _GUROBI_KERAS,
    "emlearn": _BEGIN + _EMLEARN,
    "omlt": _BEGIN + _OMLT,
    "auto-lirpa": AUTO_LIRPA + _BEGIN + _CROWN,
    "concrete-ml": _BEGIN + _CONCRETE,
    "hls4ml": _BEGIN + _HLS4ML,
}
"""By the name of the client's page."""
