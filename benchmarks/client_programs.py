"""What is run in each client's interpreter: a file and an input in, what it computes out.

Each is called with three paths: the ONNX file, the input as `.npy`, and where to put the output as
`.npy`.
"""

from __future__ import annotations

_BEGIN = """
import sys
import numpy as np
path, x, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
"""
_ONNXRUNTIME = """
import onnxruntime
session = onnxruntime.InferenceSession(path)
np.save(out, session.run(None, {session.get_inputs()[0].name: x})[0])
"""
_OPENVINO = """
import openvino
model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(out, list(model({0: x}).values())[0])
"""
_TRACT = """
import tract
model = tract.onnx().load(path)
model.analyse()
np.save(out, model.into_model().into_runnable().run([x])[0].to_numpy())
"""
_IREE = """
import os, subprocess
import iree.compiler, iree.runtime
tool = os.path.join(os.path.dirname(sys.executable), "iree-import-onnx")
subprocess.run([tool, path, "-o", "m.mlir", "--opset-version", "17"], check=True)
cpu = ["--iree-llvmcpu-target-cpu=host"]
code = iree.compiler.compile_file(
    "m.mlir", target_backends=["llvm-cpu"], input_type="onnx", extra_args=cpu)
context = iree.runtime.SystemContext(config=iree.runtime.Config("local-task"))
context.add_vm_module(iree.runtime.VmModule.copy_buffer(context.instance, code))
import onnx
np.save(out, np.asarray(context.modules.module[onnx.load(path).graph.name](x)))
"""
_ONNX2TORCH = """
import torch
from onnx2torch import convert
np.save(out, convert(path).eval()(torch.from_numpy(x)).detach().numpy())
"""
_ONNX2TF = """
import glob
import onnx2tf, tensorflow
onnx2tf.convert(input_onnx_file_path=path, output_folder_path="tflite", non_verbose=True)
model = tensorflow.lite.Interpreter(glob.glob("tflite/*float32.tflite")[0])
model.allocate_tensors()
given, made = model.get_input_details()[0], model.get_output_details()[0]
x = x if tuple(given["shape"]) == x.shape else x.transpose(0, 2, 3, 1)
model.set_tensor(given["index"], x)
model.invoke()
np.save(out, model.get_tensor(made["index"]))
"""
_ONNXSLIM = """
import onnx, onnxslim
onnx.save(onnxslim.slim(path), path := "slim.onnx")
"""
_ONNXSIM = """
import onnx, onnxsim
onnx.save(onnxsim.simplify(onnx.load(path))[0], path := "simple.onnx")
"""
_ONNXOPTIMIZER = """
import onnx, onnxoptimizer
onnx.save(onnxoptimizer.optimize(onnx.load(path)), path := "optimized.onnx")
"""
_QONNX = """
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
model = ModelWrapper(path)
np.save(out, list(execute_onnx(model, {model.graph.input[0].name: x}).values())[0])
"""
_EZKL = """
import asyncio, inspect, json
import ezkl
ezkl.gen_settings(path, "settings.json")
scale = json.load(open("settings.json"))["model_output_scales"][0]
json.dump({"input_data": [x.ravel().tolist()]}, open("input.json", "w"))
ezkl.compile_circuit(path, "circuit.ezkl", "settings.json")
witness = ezkl.gen_witness("input.json", "circuit.ezkl")
if inspect.isawaitable(witness):
    witness = asyncio.run(witness)
np.save(out, np.array([ezkl.felt_to_float(one, scale) for one in witness["outputs"][0]]))
"""
_HLS4ML = """
import hls4ml, onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model
model = cleanup_model(ModelWrapper(onnx.load(path)))
config = hls4ml.utils.config_from_onnx_model(model, granularity="name")
made = hls4ml.converters.convert_from_onnx_model(
    model, hls_config=config, output_dir="hls", backend="Vitis")
made.compile()
np.save(out, made.predict(x))
"""
_MARABOU = """
from maraboupy import Marabou
np.save(out, Marabou.read_onnx(path).evaluateWithMarabou([x])[0])
"""
AUTO_LIRPA = """
import sys
import numpy as np
import builtins, types
# What auto_LiRPA 0.3, of 2022, finds no more in today's numpy and torch.
gone = types.ModuleType("numpy.lib.arraysetops")
gone.isin = np.isin
sys.modules[gone.__name__] = gone
for name in ("bool", "int", "float", "object"):
    setattr(np, name, getattr(builtins, name))
import torch
import torch.onnx.symbolic_helper as helper
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS
def opset(version):
    GLOBALS.export_onnx_opset_version = version
helper._set_opset_version = opset
torch._C.Node.__getitem__ = lambda self, key: getattr(self, self.kindOf(key))(key)
view, scatter = torch.Tensor.view, torch.Tensor.scatter_
def anyhow(self, *shape):
    try:
        return view(self, *shape)
    except RuntimeError:
        return self.reshape(*shape)
torch.Tensor.view = anyhow
# Its Gather overwrites where an entry is read twice, and what it bounds is not what is computed.
def added(self, dim, index, src):
    return self.scatter_add_(dim, index, src.to(self.dtype).contiguous())
torch.Tensor.scatter_ = added
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
members = BoundedModule._named_members
BoundedModule._named_members = lambda self, *a, remove_duplicate=True, **k: members(self, *a, **k)
"""
"""Its import, with what a version of 2022 needs today."""
_CROWN = """
from onnx2torch import convert
x = torch.from_numpy(x)
# Its 'patches' of gradients, the default, take every sum for an image.
bounded = BoundedModule(convert(path).eval(), x, bound_opts={"conv_mode": "matrix"})
bounded._parameters["some"] = torch.nn.Parameter(torch.zeros(1))
noise = PerturbationLpNorm(norm=np.inf, eps=0.001)
bounds = bounded.compute_bounds(x=(BoundedTensor(x, noise),), method="CROWN")
np.save(out, np.stack([bound.detach().numpy() for bound in bounds]))
"""

_GUROBI = """
import gurobipy, onnx
from gurobi_ml.onnx import add_onnx_constr
model = gurobipy.Model()
x = x.astype(float)
given = model.addMVar(x.shape, lb=x, ub=x)
made = model.addMVar((1, 4), lb=-gurobipy.GRB.INFINITY)
add_onnx_constr(model, onnx.load(path), given, made)
model.optimize()
np.save(out, made.X)
"""
_OMLT = """
import onnx, pyomo.environ
from omlt import OmltBlock
from omlt.io import load_onnx_neural_network
from omlt.neuralnet import ReluBigMFormulation
bounds = dict(enumerate(zip(x.ravel().tolist(), x.ravel().tolist())))
net = load_onnx_neural_network(onnx.load(path), input_bounds=bounds)
model = pyomo.environ.ConcreteModel()
model.net = OmltBlock()
model.net.build_formulation(ReluBigMFormulation(net))
model.nothing = pyomo.environ.Objective(expr=model.net.outputs[0])
pyomo.environ.SolverFactory("appsi_highs").solve(model)
np.save(out, np.array([pyomo.environ.value(model.net.outputs[k]) for k in range(4)]))
"""

PROGRAMS = {
    "OpenVINO": _BEGIN + _OPENVINO,
    "tract": _BEGIN + _TRACT,
    "IREE": _BEGIN + _IREE,
    "onnx2torch": _BEGIN + _ONNX2TORCH,
    "onnx2tf (LiteRT)": _BEGIN + _ONNX2TF,
    "onnxslim": _BEGIN + _ONNXSLIM + _ONNXRUNTIME,
    "onnxsim": _BEGIN + _ONNXSIM + _ONNXRUNTIME,
    "onnxoptimizer": _BEGIN + _ONNXOPTIMIZER + _ONNXRUNTIME,
    "qonnx": _BEGIN + _QONNX,
    "ezkl": _BEGIN + _EZKL,
    "hls4ml": _BEGIN + _HLS4ML,
    "Marabou": _BEGIN + _MARABOU,
    "Gurobi Machine Learning": _BEGIN + _GUROBI,
    "OMLT": _BEGIN + _OMLT,
    "auto_LiRPA, CROWN": _BEGIN + AUTO_LIRPA + _CROWN,
}
"""By the name of the client."""
