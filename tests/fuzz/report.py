"""Counts what came of the cases, and says what was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from convfc.text.visible import visible
from tests.fuzz.cases import Fault, Outcome

MOST = 30
"""Sorts of answers that are listed."""


class Report:
    """Collects outcomes."""

    def __init__(self) -> None:
        self.total = 0
        self.found: defaultdict[str, list[Outcome]] = defaultdict(list)
        self._said: Counter[str] = Counter()
        self._gates: defaultdict[str, list[str]] = defaultdict(list)
        self._commands: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._mutators: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, outcome: Outcome) -> list[Fault]:
        """Count one more; those of its faults that are new."""
        self.total += 1
        kind = outcome.case.split()[0]
        self._commands[f"{kind} {outcome.command or '?'}"][outcome.end] += 1
        self._said[f"{kind} {outcome.command}: {outcome.said}"] += 1
        if outcome.gate:
            self._gates[outcome.gate].append(outcome.case)
        for mutator in outcome.mutators:
            self._mutators[f"{kind}: {mutator}"][outcome.end] += 1
        new = [fault for fault in outcome.faults if fault.sign not in self.found]
        for fault in outcome.faults:
            self.found[fault.sign].append(outcome)
        return new

    def show(self, console: Console) -> None:
        """Print the tables, and each sort of fault once."""
        for title, counts in (("commands", self._commands), ("mutators", self._mutators)):
            ends = sorted({end for counter in counts.values() for end in counter})
            table = Table(title=f"cases by {title} and how they ended")
            table.add_column(title)
            for end in ends:
                table.add_column(end, justify="right")
            for label, counter in sorted(counts.items()):
                table.add_row(label, *_cells(counter, ends))
            console.print(table)
        console.print("What it said most often:")
        for said, count in self._said.most_common(MOST):
            line = f"{count:5d}  {visible(said)}"
            console.print(line, markup=False, soft_wrap=True, highlight=False)
        if self._gates:
            console.print("Exceptions that were turned into refusals:")
        for gate, cases in sorted(self._gates.items(), key=lambda item: -len(item[1])):
            line = f"{len(cases):5d}  {gate} (such as {cases[0]})"
            console.print(line, markup=False, soft_wrap=True, highlight=False)
        console.print("What is wrong:" if self.found else "Nothing is wrong.")
        for sign, outcomes in sorted(self.found.items(), key=lambda item: -len(item[1])):
            line = f"{len(outcomes):5d}  {visible(sign)} (such as {outcomes[0].case})"
            console.print(line, markup=False, soft_wrap=True, highlight=False)
        faulty = {outcome.case for outcomes in self.found.values() for outcome in outcomes}
        summary = f"{self.total:,} cases, {len(faulty):,} with a fault, {len(self.found)} sorts of"
        console.print(f"{summary} fault")


def describe(outcome: Outcome, fault: Fault) -> str:
    """One fault in a few lines."""
    lines = [
        f"{fault.kind.upper()}  {outcome.case}  ({outcome.what[:300]})",
        f"    convfc {' '.join(outcome.arguments)[:300]}",
        f"    {fault.detail[:300]}",
        f"    {fault.where}",
        *([f"    {outcome.folder}"] if outcome.folder else []),
    ]
    return "\n".join(map(visible, lines))


def _cells(counter: Counter[str], ends: Iterable[str]) -> Iterable[str]:
    return (str(counter[end]) if counter[end] else "" for end in ends)
