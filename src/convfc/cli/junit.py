"""A verification as a JUnit XML report, for the dashboards of build servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from convfc.errors import FileError
from convfc.system import replacing
from convfc.text.sizes import shapes_text
from convfc.text.visible import visible

if TYPE_CHECKING:
    from convfc.verification.verify import Verification

KIND = replacing.xml("JUnit XML report", "testsuites?")

_Case: TypeAlias = tuple[str, str | None, str | None]
"""Its name; why it failed, or why that could not be told."""


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
            _write(path, [(subject, [("verdict", None, str(error) or type(error).__name__)])])
        raise


def write(path: Path, verifications: Sequence[Verification]) -> None:
    """Write a report: a suite per converted file, a case per layer and one for the rest.

    Raises:
        FileError: the file cannot be written, or is something else by now.
    """
    _write(path, [_suite(verification) for verification in verifications])


def _suite(verification: Verification) -> tuple[str, list[_Case]]:
    verdict = verification.verdict.value
    whole = None if verification.equivalent else f"{verdict}: {verification.reason}"
    cannot = verdict == "could not check"
    cases = [(layer.name, layer.reason, layer.unchecked) for layer in verification.layers]
    fixed = f" for {shapes_text(verification.shapes)}" if verification.shapes else ""
    cases.append((f"verdict{fixed}", None if cannot else whole, whole if cannot else None))
    return str(verification.converted), cases


def _write(path: Path, suites: Sequence[tuple[str, list[_Case]]]) -> None:
    """Write the file. XML has no control characters, so all text is made visible."""
    from xml.etree import ElementTree

    root = ElementTree.Element("testsuites", name="convfc verify")
    for name, cases in suites:
        suite = ElementTree.SubElement(root, "testsuite", name=visible(name))
        for case, failure, error in cases:
            of_case = {"classname": visible(name), "name": visible(case)}
            element = ElementTree.SubElement(suite, "testcase", of_case)
            for tag, message in (("failure", failure), ("error", error)):
                if message is not None:
                    ElementTree.SubElement(element, tag, message=visible(message))
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(failure is not None for _, failure, _ in cases)))
        suite.set("errors", str(sum(error is not None for *_, error in cases)))
    with replacing.replacing(path, KIND) as stage:
        ElementTree.ElementTree(root).write(stage, encoding="utf-8", xml_declaration=True)
