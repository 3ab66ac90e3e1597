"""An evaluation for pull request comments (Markdown) and test reports (JUnit XML)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from runner.evaluation.evaluate import Evaluation
from runner.evaluation.gates import GateResult, Verdict, gate_text
from runner.views.eval_text import difference, interval, metric_name, no_answer, notes, number
from runner.views.plan_markdown import code

_WORDS = {
    Verdict.PASSES: "passes",
    Verdict.FAILS: "**fails**",
    Verdict.UNDECIDED: "undecided: more rows are needed",
    Verdict.STALE: "not checked",
}


def evaluation_markdown(found: Sequence[Evaluation], errors: dict[str, str]) -> str:
    """Return the table of metrics and the gates' verdicts."""
    lines = ["### Evaluation", ""]
    for one in found:
        lines += _job(one)
    lines += [f"- **{code(address)}** could not be evaluated: {code(text)}" for address, text in errors.items()]
    return "\n".join(lines).rstrip() + "\n"


def _job(found: Evaluation) -> Iterator[str]:
    against = ", ".join(f"{one.revision} ({one.commit[:12]})" for one in found.baselines)
    yield f"**{code(found.job)}**{f', compared with {code(against)}' if against else ''}"
    yield ""
    if found.metrics:
        yield "| metric | value | 95 % interval | rows | without an answer | difference |"
        yield "|---|--:|---|--:|---|---|"
    for metric in found.metrics:
        cells = (
            code(metric_name(metric)),
            number(metric.value),
            interval(metric),
            f"{metric.rows:,}",
            no_answer(metric),
            difference(metric.difference),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    for result in found.gates:
        allowed = " (allowed)" if result.verdict is Verdict.UNDECIDED and not result.blocks else ""
        condition, reason = code(gate_text(result.gate)), code(result.reason)
        yield f"- gate {condition}: {_WORDS[result.verdict]}{allowed} ({reason})"
    yield from (f"- note: {code(text)}" for text in notes(found))
    yield ""


def evaluation_junit(found: Sequence[Evaluation], errors: dict[str, str]) -> str:
    """Return the gates as JUnit XML: a suite a job, a case a gate."""
    root = ET.Element("testsuites", name="batchspec eval")
    for one in found:
        blocking = sum(result.blocks for result in one.gates)
        suite = ET.SubElement(root, "testsuite", name=one.job, tests=str(len(one.gates)), failures=str(blocking))
        for result in one.gates:
            _case(suite, result)
    for address, text in errors.items():
        suite = ET.SubElement(root, "testsuite", name=address, tests="1", errors="1")
        case = ET.SubElement(suite, "testcase", classname=address, name="evaluate")
        ET.SubElement(case, "error", message=text)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, result: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=result.job, name=gate_text(result.gate))
    if result.blocks:
        ET.SubElement(case, "failure", message=f"{result.verdict}: {result.reason}")
    elif result.verdict is not Verdict.PASSES:
        ET.SubElement(case, "skipped", message=f"{result.verdict}: {result.reason}")
