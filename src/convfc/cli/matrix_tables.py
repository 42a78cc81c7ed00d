"""The matrices of a model as a table and lines, for people, and as JSON types, for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convfc.cli.tables import left_lines
from convfc.text.words import Words, words

if TYPE_CHECKING:  # as in `tables`
    from convfc.analysis.matrix import Matrix
    from convfc.analysis.reading import Measurement
    from convfc.cli.terminal import Part

_LEGEND = (
    "+b: with a bias; σ: singular values of F, of all its blocks; cond: σ max / σ min",
    "stable: the stable rank, ‖F‖² / σ max²; zeros: their share in F, in the blocks alone",
    "‖F‖: Frobenius norm; ‖M‖: Lipschitz constant of the layer on a whole sample, 2-norm",
)
_COLUMNS = ("rank", "σ max", "σ min", "cond", "stable", "zeros", "‖F‖", "‖M‖")


def matrices_table(found: Measurement) -> Words:
    """A row per convolution: its filter matrix, what its singular values say, and its norm."""
    table = Words(found.model.name, _LEGEND)
    table.add_column("layer")
    table.add_column("F")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for matrix in found.matrices.values():
        table.add_row(matrix.name, _size(matrix), *_figures(matrix))
    for one in found.unread:
        table.add_row(one.name, words(f"no matrix: {one.refusal.reason}", "red"))
    return table


def _size(matrix: Matrix) -> str:
    """Rows and columns, how many blocks there are, and whether there is a bias."""
    groups, rows, columns = matrix.blocks.shape
    blocks = f"{groups} blocks of " if groups > 1 else ""
    return f"{blocks}{rows}×{columns}{'' if matrix.b is None else '+b'}"


def _figures(matrix: Matrix) -> list[str]:
    spectrum, norm = matrix.spectrum, matrix.norm
    if spectrum is None:
        return []
    return [
        str(spectrum.rank),
        _number(spectrum.largest),
        _number(spectrum.smallest),
        _number(spectrum.condition),
        _number(spectrum.stable_rank),
        f"{100 * spectrum.zeros:.3g}%",
        _number(spectrum.frobenius),
        "?" if norm is None else _number(norm.value),
    ]


def _number(value: float) -> str:
    """Four digits.

    >>> _number(2.47345), _number(1.5e-9), _number(123456.0), _number(float("inf"))
    ('2.473', '1.5e-09', '1.235e+05', '∞')
    """
    return "∞" if value == float("inf") else f"{value:.4g}"


def measurement_parts(found: Measurement) -> Iterator[Part]:
    """The table, how near the norms are, and their product."""
    if not found.matrices and not found.unread:
        yield f"{found.model}: no convolution in it"
        return
    yield matrices_table(found)
    yield from left_lines(one.refusal for one in found.unread)
    yield from _accuracy(found)
    yield from _product(found)


def _accuracy(found: Measurement) -> Iterator[str]:
    norms = [matrix.norm for matrix in found.matrices.values()]
    searched = [norm for norm in norms if norm is not None and norm.steps and norm.value]
    if searched:
        steps = sorted({norm.steps for norm in searched})
        many = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        worst = max(norm.error / norm.value for norm in searched)
        yield (
            f"‖M‖ by {many} steps of Lanczos' method through the layer and its transpose: a "
            f"singular value is within {max(worst, 1e-15):.0e} of it, relatively"
        )
    reasons = Counter(matrix.unbounded for matrix in found.matrices.values())
    for reason, count in reasons.items():
        if reason is not None:
            remedy = ": fix them with --shape NAME=DIMS" if reason == "sizes are open" else ""
            yield f"{count} without ‖M‖, as {reason}{remedy}"


def _product(found: Measurement) -> Iterator[str]:
    chain = found.chain
    if len(chain.layers) < 2 and chain.broken is None:
        return
    if chain.broken is not None:
        last = f"after '{chain.layers[-1]}', " if chain.layers else ""
        yield f"no product of ‖M‖, as the layers form no chain: {last}{chain.broken}"
    elif found.product is not None:
        between = ", ".join(chain.between) or "nothing"
        yield (
            f"product of ‖M‖: {_number(found.product)}, a Lipschitz constant of the whole chain "
            f"(between its layers: {between}, which moves nothing further apart)"
        )


def measurement_json(found: Measurement) -> dict[str, Any]:
    """Everything in `matrices_table`, and more, as JSON types."""
    return {
        "schema": "matrices-1",
        "model": str(found.model),
        "layers": [_matrix_json(matrix) for matrix in found.matrices.values()],
        "unread": [
            {
                "name": one.name,
                "kind": one.kind,
                "reason": one.refusal.reason,
                "code": one.refusal.code.value,
            }
            for one in found.unread
        ],
        "chain": {
            "layers": list(found.chain.layers),
            "between": list(found.chain.between),
            "broken": found.chain.broken,
        },
        "product": found.product,
    }


def _matrix_json(matrix: Matrix) -> dict[str, Any]:
    groups, rows, columns = matrix.blocks.shape
    spectrum, norm = matrix.spectrum, matrix.norm
    return {
        "name": matrix.name,
        "layer": matrix.layer,
        "kind": matrix.kind,
        "dtype": matrix.dtype,
        "groups": groups,
        "rows": rows,
        "columns": columns,
        "axes": {
            side: [{"name": name, "size": size} for name, size in axes]
            for side, axes in matrix.axes.items()
        },
        "bias": matrix.b is not None,
        "sizes": list(matrix.sizes),
        "rank": None if spectrum is None else spectrum.rank,
        "singular_values": None if spectrum is None else spectrum.values.tolist(),
        "condition": None if spectrum is None else spectrum.condition,
        "stable_rank": None if spectrum is None else spectrum.stable_rank,
        "zeros": None if spectrum is None else spectrum.zeros,
        "frobenius": None if spectrum is None else spectrum.frobenius,
        "unmeasured": matrix.unbounded,
        "norm": None
        if norm is None
        else {"value": norm.value, "error": norm.error, "steps": norm.steps},
    }
