"""A verification as a JUnit XML report, for the dashboards of build servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convfc.cli.verification_tables import verification_summary
from convfc.errors import FileError
from convfc.system import replacing
from convfc.text.sizes import shapes_text
from convfc.text.visible import visible

if TYPE_CHECKING:
    from convfc.verification.verify import Verification

KIND = replacing.xml("JUnit XML report", "testsuites?")


@dataclass(frozen=True)
class _Case:
    """A test case.

    Attributes:
        name: what is tested.
        failure: why it failed, or ``None``.
        error: why that could not be told, or ``None``.
        seconds: what it took.
    """

    name: str
    failure: str | None = None
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Suite:
    """The cases of a file.

    Attributes:
        name: the file.
        cases: what was tested.
        said: a line about it all.
    """

    name: str
    cases: Sequence[_Case]
    said: str = ""


@contextlib.contextmanager
def failing(path: Path, subject: str) -> Iterator[None]:
    """See that a report can be written, and write of an error in the block that it was one.

    Args:
        path: the report.
        subject: the name of what could not be verified, then.

    Raises:
        FileError: the file cannot be written, or is something else already; the block is not run.
    """
    replacing.check(path, KIND)
    try:
        yield
    except Exception as error:
        with contextlib.suppress(FileError):  # what went wrong first is what is said
            why = str(error) or type(error).__name__
            _write(path, [_Suite(subject, [_Case("verdict", error=why)])])
        raise


def write(path: Path, verifications: Sequence[Verification]) -> None:
    """Write a report: a suite per converted file, a case per layer and one for the rest.

    Raises:
        FileError: the file cannot be written, or is something else by now.
    """
    _write(path, [_suite(verification) for verification in verifications])


def _suite(verification: Verification) -> _Suite:
    verdict = verification.verdict.value
    whole = None if verification.equivalent else f"{verdict}: {verification.reason}"
    cannot = verdict == "could not check"
    layers = verification.layers
    cases = [_Case(one.name, one.reason, one.unchecked, one.seconds) for one in layers]
    if verification.quick:
        how = "a quick look"
    else:
        how = "a proof" if verification.proved or layers else "a comparison"
    fixed = f" for {shapes_text(verification.shapes)}" if verification.shapes else ""
    rest = max(verification.seconds - sum(one.seconds for one in layers), 0.0)
    failure, error = (None, whole) if cannot else (whole, None)
    cases.append(_Case(f"verdict of {how}{fixed}", failure, error, rest))
    return _Suite(str(verification.converted), cases, verification_summary(verification))


def _write(path: Path, suites: Sequence[_Suite]) -> None:
    """Write the file. XML has no control characters, so all text is made visible."""
    from xml.etree import ElementTree

    root = ElementTree.Element("testsuites", name="convfc verify")
    for suite in suites:
        name, cases = visible(suite.name), suite.cases
        of_file = ElementTree.SubElement(root, "testsuite", name=name)
        of_file.set("tests", str(len(cases)))
        of_file.set("failures", str(sum(case.failure is not None for case in cases)))
        of_file.set("errors", str(sum(case.error is not None for case in cases)))
        of_file.set("time", f"{sum(case.seconds for case in cases):.3f}")
        for case in cases:
            element = ElementTree.SubElement(of_file, "testcase", classname=name)
            element.set("name", visible(case.name))
            element.set("time", f"{case.seconds:.3f}")
            for tag, message in (("failure", case.failure), ("error", case.error)):
                if message is not None:
                    ElementTree.SubElement(element, tag, message=visible(message))
        if suite.said:
            ElementTree.SubElement(of_file, "system-out").text = visible(suite.said)
    with replacing.replacing(path, KIND) as stage:
        ElementTree.ElementTree(root).write(stage, encoding="utf-8", xml_declaration=True)
