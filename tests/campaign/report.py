"""Counts outcomes by family, and says what went wrong."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tests.campaign.cases import STOPS, VERDICTS, Outcome
from tests.campaign.judging import Judgement

SHORT = {
    "equivalent": "EQ",
    "samples agree": "samples",
    "could not check": "unknown",
    "not equivalent": "NOT EQ",
    "refused": "refused",
    "other": "other",
}
"""Headings of the verdicts."""


class Report:
    """Collects outcomes."""

    def __init__(self) -> None:
        self.failures: list[Outcome] = []
        self.stops: list[Outcome] = []
        self.alarms: defaultdict[str, list[str]] = defaultdict(list)
        self._counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        if outcome.failure is not None:
            self.failures.append(outcome)
        if outcome.verdict in STOPS:
            self.stops.append(outcome)
        source, sort, _ = outcome.case.split(" ", 2)
        computes = "true" if outcome.judgement is None else outcome.judgement.value
        verdict = outcome.verdict if outcome.verdict in VERDICTS else "other"
        spoiled = sort in ("mutant", "dense")
        label = f"{source} {sort}: {outcome.kind}" if spoiled else f"true: {outcome.kind}"
        self._counts[label, computes][verdict] += 1
        same = outcome.judgement is Judgement.SAME
        if same and outcome.verdict in ("not equivalent", "refused"):
            said = f"{source} {outcome.verdict}: {_pattern(outcome.reason)}"
            self.alarms[said].append(outcome.case)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(sum(counter.values()) for counter in self._counts.values())

    def show(self, console: Console) -> None:
        """Print the tables."""
        table = Table(title="verdicts by family and by what the files compute")
        table.add_column("family")
        table.add_column("computes")
        for verdict in SHORT.values():
            table.add_column(verdict, justify="right")
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (label, computes), counter in sorted(self._counts.items()):
            table.add_row(label, computes, *_cells(counter))
            sums[f"{label.split(':')[0]} {computes}"].update(counter)
        table.add_section()
        for label, counter in sorted(sums.items()):
            table.add_row("all", label, *_cells(counter))
        console.print(table)
        if self.alarms:
            console.print("The same numbers, bit for bit, but NOT EQUIVALENT or refused:")
            most = sorted(self.alarms.items(), key=lambda item: -len(item[1]))
            for reason, cases in most[:25]:
                line = f"  {len(cases):4d}  {reason} (such as {cases[0]})"
                console.print(line, markup=False, soft_wrap=True)
        for outcome in self.stops:
            console.print(f"{outcome.verdict}: {outcome.case}", markup=False, soft_wrap=True)
        kinds = Counter((o.failure, o.case.split()[0], o.kind) for o in self.failures)
        console.print(f"{self.total:,} cases, {len(self.failures)} failures")
        for (failure, source, kind), count in kinds.most_common():
            console.print(f"  {count:4d}  {failure}: {source} {kind}", markup=False)


def describe(outcome: Outcome) -> str:
    """One failure in a few lines."""
    lines = [
        f"{(outcome.failure or '').upper()}  {outcome.case}  ({outcome.kind}: {outcome.what})",
        f"    convfc: {outcome.verdict} {outcome.reason}",
    ]
    lines += [f"    but {outcome.why}"] if outcome.why else []
    lines += [f"    {outcome.folder}"] if outcome.folder else []
    return "\n".join(lines)


def _cells(counter: Counter[str]) -> Iterable[str]:
    return (str(counter[verdict]) if counter[verdict] else "" for verdict in SHORT)


def _pattern(reason: str) -> str:
    """A reason without what differs from case to case."""
    text = re.sub(r"/\S+/", "", reason)
    text = re.sub(r"'[^']*'", "'..'", text)
    return re.sub(r"\d+", "0", text)[:110]
