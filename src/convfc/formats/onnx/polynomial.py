"""Is a chain of nodes a polynomial in what it is fed and in its numbers? A written list decides.

If every node is on the list, the chain's output is a sum of products of inputs and parameters, with
coefficients that are whole and not negative, for nothing here subtracts and no number of its own is
multiplied in. So nothing can cancel, or overflow where the convolution does not: each product that
a node makes is one of the output's. And no node mixes samples: axis 0 is the batch, or rows of it
in order. Then equality on random draws is equality (see `convfc.verification.proof`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NoReturn

import onnx_ir as ir

from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.sites import label


@dataclass(frozen=True)
class _Term:
    """What is known of a value.

    Attributes:
        degree: factors in each of its products; 0 for constants that say where and how many.
        fed: whether it depends on what the layer is fed; else it is made of parameters only.
        rank: number of its axes.
        batched: whether axis 0 is a batch of any size; then `fed`, too.
    """

    degree: int
    fed: bool
    rank: int
    batched: bool = False


class _NotShownError(Exception):
    """Carries the reason."""


def why_not_polynomial(
    end: ir.Value,
    fed: ir.Value,
    rank: int,
    parameters: Set[str | None],
    degree: int,
    *,
    batched: bool,
) -> str | None:
    """Why draws of integers would prove nothing, or ``None``.

    Args:
        end: what the chain makes.
        fed: what it is fed.
        rank: axes of that, the batch first.
        parameters: names of its matrices and of what the convolution is given beside its input.
        degree: of the convolution.
        batched: whether the batch may have any size.
    """
    terms: dict[ir.Value, _Term] = {fed: _Term(1, True, rank, batched)}
    todo = [end]
    try:
        while todo:
            value = todo[-1]
            if value in terms:
                todo.pop()
                continue
            found = _known(value, parameters)
            node = value.producer()
            if found is None and node is not None:
                waiting = [v for v in node.inputs if v is not None and v not in terms]
                if waiting:
                    todo += waiting
                    continue
                found = _term(node, terms)
            if found is None:
                _fail(f"it reads '{value.name}', which the convolution does not")
            terms[value] = found
            todo.pop()
    except _NotShownError as error:
        return str(error)
    if terms[end].degree > degree:
        return f"it multiplies {terms[end].degree} numbers with each other, not {degree}"
    return None


def _known(value: ir.Value, parameters: Set[str | None]) -> _Term | None:
    tensor = constant_of(value)
    if value.name in parameters:
        shape = value.shape if tensor is None else tensor.shape
        if shape is None:
            _fail(f"the shape of '{value.name}' is not known")
        return _Term(1, False, len(shape))
    if tensor is None:
        return None
    if tensor.dtype.is_floating_point() and tensor.numpy().any():
        _fail(f"it holds numbers of its own, '{value.name}'")
    return _Term(0, False, len(tensor.shape))


def _term(node: ir.Node, terms: Mapping[ir.Value, _Term]) -> _Term:
    rule = _RULES.get(node.op_type) if node.domain in DOMAINS else None
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        _fail(f"'{label(node)}' gets attributes from the caller of its function")
    if rule is None or (len(node.outputs) != 1 and node.op_type != "Split"):
        _fail(f"{node.op_type} ('{label(node)}') is not on the list of linear operators")
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        _fail(f"'{label(node)}' ({node.op_type}) gets its settings from the caller of its function")
    return rule(node, [terms[value] for value in node.inputs if value is not None])


def _fail(reason: str) -> NoReturn:
    raise _NotShownError(reason)


def _integers(node: ir.Node, index: int, attribute: str) -> list[int] | None:
    """Constant integers that are an input or, in old opsets, an attribute; ``None``: left out."""
    if attribute in node.attributes:
        value = node.attributes[attribute].value
        return [value] if isinstance(value, int) else [*value]
    given = node.inputs[index] if len(node.inputs) > index else None
    if given is None:
        return None
    tensor = constant_of(given)
    if tensor is None or not tensor.dtype.is_integer():
        _fail(f"'{label(node)}' computes its {attribute} at run time")
    return [int(number) for number in tensor.numpy().reshape(-1)]


def _only_places(node: ir.Node, terms: Sequence[_Term]) -> None:
    """All operands but the first say where and how many."""
    if any(term.degree for term in terms[1:]):
        _fail(f"'{label(node)}' ({node.op_type}) goes by numbers that are computed")


def _spared(node: ir.Node, axes: Sequence[int], term: _Term, rank: int) -> None:
    """Axis 0 of what is fed is the batch, which no node may touch."""
    if term.batched and any(axis % rank == 0 for axis in axes):
        _fail(f"'{label(node)}' ({node.op_type}) works along the batch")


def _identity(node: ir.Node, terms: Sequence[_Term]) -> _Term:  # noqa: ARG001 - a rule
    return terms[0]


def _reshape(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    shape = _integers(node, 1, "shape") or []
    if terms[0].batched and (len(shape) < 2 or shape[0] not in (0, -1)):
        _fail(f"'{label(node)}' (Reshape) sets the size of the batch")
    return replace(terms[0], rank=len(shape))


def _transpose(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    rank = terms[0].rank
    order = _integers(node, 9, "perm") or [*range(rank)][::-1]
    if terms[0].batched and order[0] != 0:
        _fail(f"'{label(node)}' (Transpose) moves the batch")
    return terms[0]


def _axes_of(node: ir.Node, index: int, name: str = "axes") -> list[int]:
    axes = _integers(node, index, name)
    if not axes:  # an empty list means all of them, in some operators
        _fail(f"'{label(node)}' ({node.op_type}) does not say its {name}")
    return axes


def _each_once(node: ir.Node, axes: list[int], rank: int) -> list[int]:
    """Axes that go or come, or else nobody knows how many are left."""
    made = rank + len(axes) if node.op_type == "Unsqueeze" else rank
    if len({axis % made for axis in axes}) < len(axes):
        _fail(f"'{label(node)}' ({node.op_type}) names an axis twice")
    return axes


def _squeeze(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    axes = _each_once(node, _axes_of(node, 1), terms[0].rank)
    sign = 1 if node.op_type == "Unsqueeze" else -1
    rank = terms[0].rank + sign * len(axes)
    _spared(node, axes, terms[0], max(rank, terms[0].rank))
    return replace(terms[0], rank=rank)


def _slice(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    _spared(node, _axes_of(node, 3), terms[0], terms[0].rank)
    return terms[0]


def _gather(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    if constant_of(node.inputs[1]) is None:  # type: ignore[arg-type] # a Gather has both operands
        _fail(f"'{label(node)}' (Gather) computes its indices at run time")
    _spared(node, [node.attributes.get_int("axis", 0)], terms[0], terms[0].rank)
    return replace(terms[0], rank=terms[0].rank - 1 + terms[1].rank)


def _pad(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    pads, rank = _integers(node, 1, "pads"), terms[0].rank
    filled = node.attributes.get_float("value", 0.0) or node.attributes.get_string(
        "mode", "constant"
    ) not in ("constant", "")
    if filled or len(node.inputs) > 3 or pads is None or len(pads) != 2 * rank:
        _fail(f"'{label(node)}' (Pad) does not pad with zeros alone")
    if terms[0].batched and (pads[0] or pads[rank]):
        _fail(f"'{label(node)}' (Pad) works along the batch")
    return terms[0]


def _sum_along(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    axes = _each_once(node, _axes_of(node, 1), terms[0].rank)
    _spared(node, axes, terms[0], terms[0].rank)
    kept = node.attributes.get_int("keepdims", 1)
    return replace(terms[0], rank=terms[0].rank - (0 if kept else len(axes)))


def _concat(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    if len({(term.fed, term.rank) for term in terms}) > 1 or not all(t.degree for t in terms):
        _fail(f"'{label(node)}' (Concat) joins what is fed with what is not")
    _spared(node, _axes_of(node, 99, "axis"), terms[0], terms[0].rank)
    return replace(terms[0], degree=max(term.degree for term in terms))


def _split(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    _spared(node, [node.attributes.get_int("axis", 0)], terms[0], terms[0].rank)
    return terms[0]


def _tile(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    _only_places(node, terms)
    if terms[0].fed:
        _fail(f"'{label(node)}' (Tile) repeats what is fed")
    return terms[0]


def _add(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    if not all(term.degree for term in terms):
        _fail(f"'{label(node)}' ({node.op_type}) adds a constant of its own")
    fed, batched = (any(flags) for flags in zip(*((t.fed, t.batched) for t in terms), strict=True))
    rank = max(term.rank for term in terms)
    if any(term.batched and term.rank < rank for term in terms):
        _fail(f"'{label(node)}' ({node.op_type}) spreads the batch")
    return _Term(max(term.degree for term in terms), fed, rank, batched)


def _multiply(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    a, b = terms
    if (a.fed and b.fed) or not (a.degree and b.degree):
        _fail(f"'{label(node)}' ({node.op_type}) does not multiply with a parameter")
    least = 3 if node.op_type == "MatMul" and b.fed else 2
    fed = a if a.fed else b
    if node.op_type == "MatMul" and min(a.rank, b.rank) < 2:
        _fail(f"'{label(node)}' (MatMul) takes a vector for a matrix")  # and so makes fewer axes
    if fed.batched and (fed.rank < least or fed.rank < max(a.rank, b.rank)):
        _fail(f"'{label(node)}' ({node.op_type}) mixes the batch")
    return replace(fed, degree=a.degree + b.degree, rank=max(a.rank, b.rank))


def _gemm(node: ir.Node, terms: Sequence[_Term]) -> _Term:
    plain = all(node.attributes.get_float(name, 1.0) == 1 for name in ("alpha", "beta"))
    if not plain or node.attributes.get_int("transA") or not terms[0].fed:
        _fail(f"'{label(node)}' (Gemm) is not the product with a matrix alone")
    made = _multiply(node, terms[:2])
    return _add(node, [made, *terms[2:]])


_RULES: Mapping[str, Callable[[ir.Node, Sequence[_Term]], _Term]] = {
    "Add": _add,
    "Concat": _concat,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _multiply,
    "Mul": _multiply,
    "Pad": _pad,
    "ReduceSum": _sum_along,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sum": _add,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
}
"""The list: operators that move elements, add them up, or multiply them with parameters."""
