"""Why something is refused or left: a code for programs, and what helps, for people.

Each code is a row of docs/refusals.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why a file, a call or a layer was refused, in a word that stays the same.

    >>> Code("open-size").remedy
    'fix it with --shape NAME=DIMS'

    Attributes:
        remedy: what helps, wherever it happens.
    """

    remedy: str

    def __new__(cls, value: str, remedy: str) -> Code:
        """A member, with what helps."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.remedy = remedy
        return member

    # Calls
    USAGE = "usage", "see --help, or help() of the function"
    GEOMETRY = "geometry", "check sizes, kernel, strides, dilations, pads and groups"
    SAMPLES = "samples", "check the samples against the model's inputs: convfc verify --help"

    # Files
    MISSING = "missing", "check the name"
    NO_FILE = "no-file", "name a file on disk that you may read"
    NO_MODEL = "no-model", "give a .onnx, .h5, .hdf5 or .keras file"
    DAMAGED = "damaged", "get a fresh copy, or save or export the model again"
    INVALID_GRAPH = "invalid-graph", "export the model again; the name is that of what is at fault"
    WEIGHTS_ONLY = "weights-only", "save the whole model, with model.save(..)"
    OTHER_FILE = "other-file", "put the file of weights beside the model"
    TOO_LARGE = "too-large", "save the model without compression, or use a machine with more memory"
    CHANGED = "changed", "run it again when the file is complete"
    CRASHES = "crashes", "export the model again with known sizes; no library survives this file"
    RECORD = "record", "convert the original again"
    NO_PARTNER = "no-partner", "name both files"
    NO_OUTLINE = "no-outline", "name the original with --like"
    NOT_WRITTEN = "not-written", "choose another place or name, or free some space"

    # Models
    LAMBDA = "lambda", "build the model with a stock layer in its place and save it again"
    CUSTOM = "custom", "register the class in a module of yours and name that with --import"
    NO_KERAS = "no-keras", "pip install h5py 'keras>=3.15,<3.16' 'tensorflow>=2.18'"
    OLD_KERAS = "old-keras", "build the model with stock layers of Keras 3 and save it again"
    NO_INPUT = "no-input", "build the model with an Input of known channels and save it again"
    NOT_KEPT = "not-kept", "export the model without it: it would be lost in the converted file"
    NOT_LOADED = "not-loaded", "load the model where it was made and save it again"
    NOT_RUN = "not-run", "run the original in its stock runtime: it says the same"
    TOO_LONG = "too-long", "feed fewer or smaller samples, or use a larger machine"
    NOT_EXPLAINED = "not-explained", "explain another layer, or give its sizes to explain"
    DIFFERS = "differs", "report it as a fault of convfc"

    # Layers that are left
    OPEN_SIZE = "open-size", "fix it with --shape NAME=DIMS"
    UNKNOWN_KERNEL = "unknown-kernel", "export the model with the kernel as a stored weight"
    RUN_TIME = "run-time", "export the model with zero points and scales as stored numbers"
    CONTRADICTION = "contradiction", "export the model again: its attributes do not fit its shapes"
    NO_NUMBERS = "no-numbers", "export the model with input and kernel of one type of numbers"
    OPSET = "opset", "export the model with opset 13 or later"
    FUSED = "fused", "convert the model from before it was optimized for one runtime"
    FOREIGN = "foreign", "export it as a standard operator or layer; --partial converts the others"
    INSIDE = "inside", "build the model without that wrapper; --partial converts the others"
    MERGE_FIRST = "merge-first", "merge the update into the kernel and save the model again"
    BIAS_ASTRAY = "bias-astray", "save the model with its channels last"
    LAYER_TOO_LARGE = "layer-too-large", "give --patch-memory more; --partial converts the others"
    DENSE_LIMIT = "dense-limit", "give --dense-limit more; --partial converts the others"
    METHOD = "method", "let convfc choose, with --patches auto"
    NO_CONVOLUTION = "no-convolution", "revert the file from before that change; --partial goes on"


@dataclass(frozen=True)
class Refusal:
    """Why a layer cannot be lowered.

    Attributes:
        reason: in words for the person who asked.
        code: in one for programs.
    """

    reason: str
    code: Code
