"""What a loaded model is to the rest of convfc, whatever its format: ports, sites, three verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from convfc.core.arrays import numpy_type
from convfc.core.geometry import AnyConvolution, Sizes
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.quantization import Quantization
from convfc.core.whole import Form
from convfc.errors import GeometryError
from convfc.formats.draft import Draft
from convfc.formats.inner import Inner, LayerOutput
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading
from convfc.refusals import Refusal

Feed = Mapping[str, NDArray[Any]]
"""One array per input or output, by the name of its port."""


@dataclass(frozen=True)
class Port:
    """One input or output of a model.

    Attributes:
        name: the name under which the runtime feeds or returns it.
        shape: one entry per axis, the batch included; ``None`` is an unknown size.
            ``None`` as a whole: not even the number of axes is known.
        dtype: numpy's name of the element type (``"float32"``), ``"bfloat16"`` included;
            ``"string"`` for text.
        channels_last: whether an image here has its channels on the last axis (else on the
            second); ``None`` when the format does not say.
        symbols: the names that the file gives to sizes, axis by axis, ``None`` where it gives
            none; what has the same name has the same size. Empty if no axis has a name.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    channels_last: bool | None = None
    symbols: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Site:
    """One convolution in a model.

    Attributes:
        name: unique in the model; enclosing models or subgraphs come first, with slashes.
        kind: the format's own word for it (``"Conv"``, ``"DepthwiseConv2D"``).
        convolution: its geometry; ``None`` where there is none to be had, for a `refusal`.
        sizes: spatial input sizes, ``None`` where unknown; empty without a convolution.
        dtype: numpy's name of the element type of its patches.
        bias: whether it adds one.
        methods: the patch methods that its format can hold.
        refusal: why convfc leaves it as it is, or ``None``.
        banded: whether its format can cut an axis of unknown size; see `lower`.
        rest: the convolutions that its layer computes of what this one makes, if any.
        kept: the type that its weights are held in; empty if that is `dtype`.
    """

    name: str
    kind: str
    convolution: AnyConvolution | None
    sizes: Sizes = ()
    dtype: str = "float32"
    bias: bool = False
    methods: frozenset[PatchMethod] = frozenset(PatchMethod)
    refusal: Refusal | None = None
    banded: bool = False
    rest: tuple[AnyConvolution, ...] = ()
    kept: str = ""

    @property
    def reason(self) -> str | None:
        """Why convfc leaves it as it is, in words; else ``None``."""
        return None if self.refusal is None else self.refusal.reason

    @property
    def itemsize(self) -> int:
        """Bytes per number of its patches."""
        return numpy_type(self.dtype).itemsize

    @property
    def made(self) -> Sizes | None:
        """Sizes of a sample of its output, channels first, as far as known; ``None`` of none."""
        if (conv := self.convolution) is None:
            return None
        try:
            return (conv.filters, *conv.output(self.sizes))
        except GeometryError:
            return (conv.filters, *[None] * conv.rank)


class LayerPair(Protocol):
    """One convolution twice, each alone: as the original has it and as the converted model has it.

    Both run in the format's stock runtime. Inputs and outputs have the model's own layout.
    """

    @property
    def site(self) -> Site:
        """The original's convolution."""

    @property
    def form(self) -> Form:
        """What it was converted to."""

    @property
    def stages(self) -> tuple[int, ...]:
        """How many products are summed for one number of the output, product after product."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Sizes of the input, the batch first; ``None`` where unknown."""

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """An input that is as small as the windows allow, with a few positions."""

    @property
    def parameters(self) -> Mapping[str, NDArray[Any] | None]:
        """Kernel and bias as the original has them, by name.

        ``None`` for one that is computed at run time.
        """

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter in the original."""

    def parameter_dtype(self, name: str) -> str:
        """Numpy's name of its element type, ``"bfloat16"`` included."""

    @property
    def channels_last(self) -> bool:
        """Whether the channels of its input and output are their last axis, else the second."""

    @property
    def kernel_order(self) -> tuple[int, ...]:
        """The axes of the original's kernel in the order of Keras: taps first, filters last.

        Channels are last instead, and filters before them, in a transposed convolution.
        """

    @property
    def quantization(self) -> Quantization | None:
        """What the integers of the original stand for; ``None``: they are no integers.

        Raises:
            UnsupportedModelError: that is computed at run time.
        """

    @property
    def rounds_to_integers(self) -> bool:
        """Whether the layer's output is not its sums of products, but those scaled and rounded."""

    @property
    def problem(self) -> str | None:
        """Which of its numbers are not the original's parameters, bit for bit; ``None``: none.

        Only what was seen to differ in numbers counts; another structure is no problem as such.
        """

    @property
    def structure(self) -> str | None:
        """The first thing about the converted layer that is not what convfc emits for the site.

        ``None``: operator, attributes, wiring and every constant are what the emitter makes of
        this site and this record, so it is the method itself, for every size and batch.
        """

    @property
    def unshown(self) -> str | None:
        """Why integer draws would prove nothing of another structure; ``None``: they prove it.

        They do where every operation is linear or moves elements, so that the layer is a
        polynomial of known degree in its input and parameters, at the sizes that are drawn; and
        no constant depends on a size that is open.
        """

    def run(
        self, x: NDArray[Any], parameters: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Original and converted output, with other `parameters` in the places of their own.

        Without any, each side has the numbers of its own file.

        Raises:
            UnsupportedModelError: the runtime refuses one of them.
        """

    def original(self, x: NDArray[Any], parameters: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The original's output alone."""

    def exact(
        self, x: NDArray[Any], parameters: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """What `run` returns, computed without short cuts; real numbers in float64.

        Sums of products of integers have errors far below 1 there, however they are computed.

        Raises:
            UnsupportedModelError: that cannot be had of one of them.
        """


@dataclass(frozen=True)
class Alignment:
    """A converted model next to its original.

    Attributes:
        pairs: the converted convolutions, in the order of execution.
        differences: what is certainly different outside of them: a number, or who reads what.
        unknown: what is built otherwise outside of them, so that nobody can tell if it matters.
        remarks: what no runtime reads, such as descriptions, or what matters to training only.
        stated: those of the unknown that a file states beside what it computes.
    """

    pairs: tuple[LayerPair, ...]
    differences: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()


class Model(Inner, Protocol):
    """A model file that was opened. Opening reads it; only `save_converted` writes."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def files(self) -> Sequence[Path]:
        """The file, and those beside it that hold weights of it."""

    @property
    def reading(self) -> Reading:
        """How it was read, where the file leaves that open."""

    @property
    def notes(self) -> Sequence[str]:
        """What opening the file had to do or give up, a sentence each; mostly empty."""

    @property
    def inputs(self) -> Sequence[Port]:
        """Inputs that must be fed."""

    @property
    def outputs(self) -> Sequence[Port]:
        """Outputs, in the model's order."""

    @property
    def sites(self) -> Sequence[Site]:
        """Every convolution, in the order of execution."""

    @property
    def has_steps(self) -> bool:
        """Whether it rounds, compares or chooses, so that a tie may move some numbers far."""

    @property
    def rewritten(self) -> bool:
        """Whether other operators are read, and proved, than are in the file; samples tell."""

    @property
    def precision(self) -> str:
        """Numpy's name of the coarsest real type that something in it is computed in."""

    @property
    def provenance(self) -> Provenance | None:
        """What `save_converted` wrote into the file, if convfc made it."""

    @property
    def takes_forms(self) -> bool:
        """Whether `save_converted` heeds how a product is to be written, see `Forms`."""

    @property
    def layer_outputs(self) -> Mapping[str, LayerOutput]:
        """What holds the outputs of sites in what `save_converted` wrote, if values have names."""

    def freeze_weights(self) -> Sequence[str]:
        """Make constants of weights that are inputs as well, in what `save_converted` writes.

        Returns:
            What is to be said of it at once, a sentence each.
        """

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run the file, as stored, in its format's stock runtime.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the feed.
        """

    def cautions(self, feed: Feed) -> Sequence[str]:
        """What somebody who runs the file on this machine should know, a sentence each.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the feed.
        """

    def run_once(self, feed: Feed, path: Path | None = None) -> dict[str, NDArray[Any]]:
        """What `run` returns, at the least cost for a single time; nothing is kept for another.

        May be called after `save_converted`, too.

        Args:
            feed: one array per input.
            path: a file with the same inputs and outputs to run instead.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the feed.
        """

    def run_in_float64(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run the same network with all its real numbers in float64: input, weights, results.

        Raises:
            UnsupportedModelError: some part of it is not to be had in float64, or takes too long.
        """

    def activations(self, feed: Feed, sites: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What the named convolutions are fed when the model is; those that cannot be seen lack.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the feed.
        """

    def align(self, converted: Model) -> Alignment:
        """Cut another model of the same format along its converted convolutions."""

    def save_converted(
        self, path: Path, lowerings: Mapping[str, Lowering], provenance: Provenance
    ) -> Sequence[str]:
        """Write a copy in which the named sites are patches + Dense; may change what is in memory.

        Args:
            path: where to write, with files beside it that it needs; the caller cleans up.
            lowerings: by site name; each fits its site.
            provenance: stored in the file.

        Returns:
            Remarks for the person who asked, a sentence each: what could not be kept.

        Raises:
            OSError: the file cannot be written.
        """

    def draft(self, lowerings: Mapping[str, Lowering], provenance: Provenance) -> Draft:
        """What `save_converted` would write, and no file that stays; else the same as that."""
