"""`soundctm train report`: judged run folders gathered into one HTML page, and a Markdown file with its plots."""

from __future__ import annotations

import base64
import html
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from soundctm_training.evaluation.findings import RULE, Finding
from soundctm_training.evaluation.groups import NOT_JUDGED, Groups, Section, Table, group
from soundctm_training.evaluation.plots import training_curves
from soundctm_training.evaluation.results import Result, read_results
from soundctm_training.evaluation.sections import (
    denoising_section,
    distance_section,
    gamma_section,
    guidance_section,
    jumps_section,
    methods_section,
    options_section,
)
from soundctm_training.runs import write_whole

logger = logging.getLogger(__name__)

HTML_FILE = "report.html"
MARKDOWN_FILE = "report.md"
TITLE = "What distillation gave, beside the paper"
_STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0;font-size:13px}td,th{border:1px solid #ccc;padding:.2em .6em}"
    "th{background:#f2f2f2;text-align:left}img{max-width:100%}caption{text-align:left;font-weight:bold;padding:.3em 0}"
)


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Writes report.html (self-contained) and report.md with its PNG files into `out`; returns the page's path.

    Raises ReportError: a folder without evaluation.json, folders judged on different benches, two equal students.
    """
    results = read_results(folders)
    groups = group(results)
    sections = [_overview(results), *_paper_sections(groups), *_curves(results)]
    out.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name, png in section.figures:
            _write_bytes(out / name, png)
    _write_text(out / MARKDOWN_FILE, as_markdown(sections))
    _write_text(out / HTML_FILE, as_html(sections))
    logger.info("%d folders in %s", len(results), out / HTML_FILE)
    return out / HTML_FILE


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def _write_bytes(path: Path, content: bytes) -> None:
    write_whole(path, lambda aside: aside.write_bytes(content))


def _paper_sections(groups: Groups) -> list[Section]:
    makers = (jumps_section, distance_section, denoising_section, guidance_section, gamma_section, methods_section)
    last = options_section(groups)
    return [*(make(groups) for make in makers), *([last] if last else [])]


def _curves(results: Sequence[Result]) -> list[Section]:
    figure = training_curves(results)
    if figure is None:
        return []
    return [Section("Training curves", "What each run reported, by step.", figures=(("curves.png", figure),))]


def _overview(results: Sequence[Result]) -> Section:
    """What was judged on what, and what every student cost."""
    bench = results[0].table["bench"]
    note = (
        f"Every student generated the same {bench['clips']} clips of {bench['seconds']:g} s: "
        f"{bench['distinct_prompts']} held-out prompts of {bench['labels']} classes, each with seeds of its own (bench "
        f"{bench['digest']}). ± is the standard error over student seeds; where there is one student only, p marks "
        "that over prompts. The Fréchet distance is of the classifier's embeddings, both covariances shrunk towards a "
        "sphere where there are no more clips than features: comparable within this report only. KL is of the "
        f"classifier's posteriors, real against generated, in nats. {RULE}"
    )
    rows = [
        (
            result.folder.name,
            str(result.variant) if result.variant else result.kind.value,
            str(result.seed) if result.variant else NOT_JUDGED,
            str(result.steps) if result.metrics else NOT_JUDGED,
            f"{result.cpu_minutes:.1f}" if result.metrics else NOT_JUDGED,
            f"{result.table['cpu_seconds']:.0f}",
        )
        for result in results
    ]
    header = ("run", "what", "seed", "steps", "CPU-minutes", "judged in CPU-s")
    return Section(TITLE, note, (Table("Budgets", header, tuple(rows)),))


def _findings_table(findings: Sequence[Finding]) -> Table:
    rows = tuple((f.claim, f.metric.name, f.paper, f.found, f.verdict.value) for f in findings)
    header = ("the paper's ordering", "our metric", "the paper's numbers", "our difference", "verdict")
    return Table("Orderings", header, rows)


def _tables(section: Section) -> list[Table]:
    return [*section.tables, *([_findings_table(section.findings)] if section.findings else [])]


def as_markdown(sections: Sequence[Section]) -> str:
    """Figures are links to the files beside it."""
    parts = []
    for level, section in enumerate(sections):
        parts += [f"{'#' if level == 0 else '##'} {section.title}", section.note]
        for table in _tables(section):
            lines = [table.header, ("---",) * len(table.header), *table.rows]
            cells = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
            parts += [f"**{table.title}**", "\n".join(cells)]
        parts += [f"![{section.title}]({name})" for name, _ in section.figures]
    return "\n\n".join(parts) + "\n"


def as_html(sections: Sequence[Section]) -> str:
    """One page with its figures inside."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{TITLE}</title><style>{_STYLE}</style>"]
    for level, section in enumerate(sections):
        heading = "h1" if level == 0 else "h2"
        note = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(section.note))
        parts.append(f"<{heading}>{html.escape(section.title)}</{heading}><p>{note}</p>")
        parts += [_html_table(table) for table in _tables(section)]
        for name, png in section.figures:
            data = base64.b64encode(png).decode()
            parts.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    return "\n".join([*parts, "</html>"])


def _html_table(table: Table) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in table.rows)
    return f"<table><caption>{html.escape(table.title)}</caption>{line('th', table.header)}{body}</table>"
