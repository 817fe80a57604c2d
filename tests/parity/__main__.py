"""`python -m parity FOLDER`: group x worst error x tolerance; exit code 1 when anything is off."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.golden import Comparison, Outcome
from parity.run import check_folder


def main(arguments: list[str]) -> int:
    console = Console(width=None if sys.stdout.isatty() else 140)
    if len(arguments) != 1:
        console.print("usage: python -m parity FOLDER", markup=False)
        return 2
    outcome = check_folder(Path(arguments[0]))
    report(outcome, console)
    return 0 if outcome.ok else 1


def report(outcome: Outcome, console: Console) -> None:
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for comparison in outcome.comparisons:
        groups[comparison.group, comparison.tolerance.name].append(comparison)
    table = Table("group", "compared", "worst error", "tolerance", "worst tensor", "")
    for (group, _), comparisons in groups.items():
        worst = max(comparisons, key=lambda comparison: comparison.error)
        verdict = "[green]ok[/]" if all(comparison.ok for comparison in comparisons) else "[red]OFF[/]"
        limit = f"{worst.tolerance.limit:.0e} {worst.tolerance.law}"
        tensor = escape(worst.tensor.split(":", 1)[1])
        table.add_row(group, str(len(comparisons)), f"{worst.error:.1e}", limit, tensor, verdict)
    console.print(table)
    for group, sentence in outcome.problems:
        console.print(f"[red]OFF[/] {escape(group)}: {escape(sentence)}", highlight=False, soft_wrap=True)
    off = sum(not comparison.ok for comparison in outcome.comparisons)
    broken = f"parity is broken: {off} comparisons off, {len(outcome.problems)} problems"
    verdict = "parity holds" if outcome.ok else broken
    console.print(f"{len(outcome.comparisons)} comparisons; {verdict}", highlight=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
