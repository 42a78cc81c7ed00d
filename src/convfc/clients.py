"""Clients: what one kind of program needs of a converted file, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from convfc.core.whole import Form, MaxPool
from convfc.errors import UsageError
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.shapes import Shapes

_Choice = TypeVar("_Choice", Form, MaxPool)

if TYPE_CHECKING:  # who asks what there is need not wait for numpy
    from convfc.formats.protocols import Port


@dataclass(frozen=True)
class Client:
    """A kind of program that takes converted files, and what it needs.

    Attributes:
        name: what it is asked for by.
        who: which programs are meant.
        forms: how products are written for it, in ONNX.
        fixed: whether all sizes are to be known, the batch too.
        form: what convolutions become for it; ``None`` if that is the same to it.
        flat_io: whether inputs and outputs are rows.
        max_pool: what becomes of MaxPool; ``None`` if that is the same to it.
        why: what was seen without that.
    """

    name: str
    who: str
    forms: Forms = DEFAULT
    fixed: bool = False
    form: Form | None = None
    flat_io: bool = False
    max_pool: MaxPool | None = None
    why: str = ""

    @property
    def sets(self) -> tuple[str, ...]:
        """What it sets, a phrase each."""
        said = [_FORMS[name] for name in self.forms.names]
        others = {
            _DENSE: self.form is Form.DENSE,
            _ROWS: self.flat_io,
            _RELU: self.max_pool is MaxPool.RELU,
            _FIXED: self.fixed,
        }
        return (*(phrase for phrase, is_set in others.items() if is_set), *said)

    def form_of(self, given: Form | None) -> Form:
        """The form of its files, where somebody asked for one, or for none.

        Raises:
            UsageError: they asked for another one than it takes.
        """
        return self._settled("form", given, self.form) or Form.PATCHES

    def max_pool_of(self, given: MaxPool | None) -> MaxPool:
        """The same of MaxPool.

        Raises:
            UsageError: they asked for something else than it takes.
        """
        return self._settled("max-pool", given, self.max_pool) or MaxPool.KEEP

    def _settled(self, name: str, given: _Choice | None, own: _Choice | None) -> _Choice | None:
        if given is not None and own is not None and given is not own:
            raise UsageError(f"--for {self.name} does not go with --{name} {given.value}")
        return own if given is None else given

    def shapes(self, ports: Sequence[Port], given: Shapes) -> dict[str, Sequence[int]]:
        """What the inputs are fixed to: as given, and a batch of 1 where nothing else is open.

        Args:
            ports: the inputs of a model.
            given: shapes that somebody asked for, by name.

        Raises:
            UsageError: another size is open, and has to be given.
        """
        found = dict(given)
        for port in ports if self.fixed else ():
            if port.name in given or (port.shape is not None and None not in port.shape):
                continue
            if port.shape is None or None in port.shape[1:]:
                sizes = "DIMS" if port.shape is None else _example(port.shape)
                raise UsageError(
                    f"'{self.name}' needs known sizes, and those of input '{port.name}' are open",
                    remedy=f"give them with --shape {port.name}={sizes}",
                )
            found[port.name] = (1, *(size for size in port.shape[1:] if size is not None))
        return found


def _example(shape: Sequence[int | None]) -> str:
    """What to write, with letters where numbers are to be given."""
    letters = iter("HWDEFGIJKLMNOPQRSTUVXYZ" * 2)
    sizes = [next(letters, "Z") if size is None else str(size) for size in shape[1:]]
    return "x".join(["1" if shape[0] is None else str(shape[0]), *sizes])


_FORMS = {
    "keep_batch": "products of (batch, positions, K), the batch an axis of its own",
    "depthwise_products": "depthwise layers as a batch of products",
    "biased": "a sum behind each product, of zeros where there is no bias; a name for each node",
    "filters_right": "the filter matrix as the right operand of each product",
}
_DENSE = "one matrix per layer, as --form dense"
_ROWS = "rows in and out, as --flat-io"
_RELU = "MaxPool in Dense and ReLU, as --max-pool relu"
_FIXED = "all sizes known: a batch of 1 where it is open, the others by --shape"

_ALL = (
    Client(
        "crown",
        "auto_LiRPA, and verifiers built on it",
        Forms(keep_batch=True, filters_right=True),
        why="CROWN stops where a Reshape takes the batch along, and at weights on the left",
    ),
    Client(
        "matmul-quantizer",
        "quantizers that look for MatMul alone, as onnxruntime's",
        Forms(depthwise_products=True, filters_right=True),
        why="dynamic and static ones pass over Mul, 4-bit ones over weights on the left",
    ),
    Client(
        "ezkl",
        "proofs of a run in zero knowledge",
        fixed=True,
        why="it stops at an open batch: 'Undetermined symbol in expression'",
    ),
    Client(
        "qonnx",
        "quantized networks on FPGAs, as FINN builds them",
        fixed=True,
        why="it takes an open batch for one of 0 samples",
    ),
    Client(
        "marabou",
        "Marabou, which finds an input with a property, or proves that there is none",
        form=Form.DENSE,
        flat_io=True,
        max_pool=MaxPool.RELU,
        why="it fails at padded convolutions, and at patches: 'Operation Gather not implemented'",
    ),
    Client(
        "gurobi",
        "optimization over networks: Gurobi Machine Learning",
        form=Form.DENSE,
        flat_io=True,
        max_pool=MaxPool.RELU,
        why="'Unsupported ONNX op Conv', and Reshape as well; of Keras it takes Dense and ReLU",
    ),
    Client(
        "omlt",
        "optimization over networks: OMLT, for Pyomo and its solvers",
        Forms(biased=True),
        form=Form.DENSE,
        flat_io=True,
        max_pool=MaxPool.RELU,
        why="'Unhandled node type Transpose', and a product without a bias is a KeyError",
    ),
    Client(
        "emlearn",
        "networks in C for microcontrollers, as emlearn writes them, of Keras files",
        form=Form.DENSE,
        flat_io=True,
        max_pool=MaxPool.RELU,
        why="\"Layer type 'Conv2D' is not implemented\"; nor is Flatten, nor a Dense without bias",
    ),
    Client(
        "concrete-ml",
        "inference on encrypted data",
        form=Form.DENSE,
        flat_io=True,
        why="'unknown attributes: auto_pad'; it knows no Gather",
    ),
    Client(
        "hls4ml",
        "networks on FPGAs, as hls4ml writes them",
        form=Form.DENSE,
        flat_io=True,
        fixed=True,
        max_pool=MaxPool.RELU,
        why="'Please convert the model to channels-last format', and no Slice or Gather",
    ),
)

CLIENTS: Mapping[str, Client] = {client.name: client for client in _ALL}
"""All that there are, by name."""
ANYBODY = Client("", "")
"""Nobody in particular."""


def client_named(name: str | None) -> Client:
    """The client of a name; `ANYBODY` of ``None``.

    Raises:
        UsageError: there is none.
    """
    if name is None:
        return ANYBODY
    if name not in CLIENTS:
        raise UsageError(f"no client is called '{name}'; there are: {', '.join(CLIENTS)}")
    return CLIENTS[name]
