"""The report's sections: one per table or figure of the paper that is tried at our scale."""

from __future__ import annotations

import math

import numpy as np

from soundctm_training.evaluation.findings import Expected, Finding
from soundctm_training.evaluation.groups import Groups, Section, Table, at, between, cell, row_cell, values, within
from soundctm_training.evaluation.plots import bars, heat_maps, over_jumps
from soundctm_training.evaluation.results import (
    FRECHET,
    KEPT_COURSE,
    KEPT_EMBEDDING,
    KEPT_LSD,
    KL,
    PRESERVATION,
    QUALITY,
    TOP1,
    Metric,
    Result,
    Row,
)
from soundctm_training.evaluation.student import GAMMAS, JUMPS
from soundctm_training.evaluation.variants import CTM, Variant

_COMPARED_JUMPS = (1, 8, 16)
_JUDGED = (FRECHET, KL, TOP1)
BETTER, WORSE, EQUAL = Expected.BETTER, Expected.WORSE, Expected.EQUAL


def _quality_row(name: str, row: Row) -> tuple[str, ...]:
    return (name, *(row_cell(row, metric) for metric in QUALITY))


def jumps_section(groups: Groups) -> Section:
    """Table 3."""
    header = ("", *(metric.name for metric in QUALITY))
    rows: list[tuple[str, ...]] = []
    for ceiling in groups.ceilings:
        rows.append(_quality_row("real clips", ceiling.table["real"]))
        rows.append(_quality_row("real clips through the codec", ceiling.table["reconstructed"]))
    for teacher in groups.teachers:
        for row in teacher.rows():
            rows.append(_quality_row(f"teacher, {row['steps']} Heun steps, omega {row['omega']:g}", row))
    tables = [Table("What can be reached", header, tuple(rows))] if rows else []
    for variant, students in groups.students.items():
        lines = [(f"{count}", *(cell(students, at(count), metric) for metric in QUALITY)) for count in JUMPS]
        tables.append(Table(f"{variant} ({len(students)} seeds)", ("jumps", *header[1:]), tuple(lines)))
    reference = groups.reference
    findings: list[Finding] = []
    if reference is not None:
        students = groups.students[reference]
        paper = {FRECHET: "84.1 → 72.2 (FD openl3)", KL: "1.74 → 1.27", TOP1: "CLAP .36 → .42"}
        for metric in _JUDGED:
            findings.append(within(students, at(16), at(1), "16 jumps better than 1", metric, BETTER, paper[metric]))
        steps = {FRECHET: ("80.0 < 84.1", "83.1 > 80.0", "79.1 < 83.1", "72.2 < 79.1"),
                 KL: ("1.61 < 1.74", "1.57 < 1.61", "1.29 < 1.57", "1.27 < 1.29")}
        for metric, papers in steps.items():
            for (fewer, more), text in zip(((1, 2), (2, 4), (4, 8), (8, 16)), papers, strict=True):
                expected = WORSE if metric is FRECHET and fewer == 2 else BETTER
                claim = f"{more} jumps {expected.value} than {fewer}"
                findings.append(within(students, at(more), at(fewer), claim, metric, expected, text))
    note = (
        "Ours: gamma 0, nu 1 and the same omega at every number of jumps. The paper takes nu 5 from 8 jumps on, so "
        "its gain there is nu's as well; see Figures 5 and 12."
    )
    figures = (("jumps.png", over_jumps(groups, JUMPS, _JUDGED)),) if groups.students else ()
    return Section("Table 3: quality over the number of jumps", note, tuple(tables), tuple(findings), figures)


def _variant_rows(groups: Groups, variants: list[Variant], metrics: tuple[Metric, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (str(variant), str(count), *(cell(groups.students[variant], at(count), metric) for metric in metrics))
        for variant in variants
        for count in _COMPARED_JUMPS
    )


def distance_section(groups: Groups) -> Section:
    """Tables 1 and 12."""
    variants = [v for v in groups.students if v.method == CTM and v.denoising and not v.others]
    title = "Tables 1 and 12: the distance and where it is taken"
    if not variants:
        return Section(title, "No ctm student with the DSM loss was judged.")
    table = Table("Distance and match point", ("student", "jumps", *(m.name for m in QUALITY)),
                  _variant_rows(groups, variants, QUALITY))
    reference, findings = groups.reference, []
    papers = {
        (1, FRECHET): (BETTER, "2.17 < 2.43 (UNet); 77.4 ≈ 77.8 (DiT)"),
        (1, KL): (EQUAL, "1.27 ≈ 1.28 (UNet); 1.70 ≈ 1.67 (DiT)"),
        (8, FRECHET): (BETTER, "1.51 < 1.64 (UNet); 68.1 < 79.6 (DiT)"),
        (16, FRECHET): (BETTER, "1.37 < 1.62 (UNet); 65.6 < 69.2 (DiT)"),
        (16, KL): (BETTER, "1.22 < 1.28 (DiT)"),
    }
    for other in variants if reference is not None else []:
        if reference is None or other.distance != "l2":
            continue
        for (count, metric), (expected, paper) in papers.items():
            claim = f"{reference} {expected.value} to {other} at {count}" if expected is EQUAL else (
                f"{reference} {expected.value} than {other} at {count}"
            )
            findings.append(between(groups, reference, other, at(count), claim, metric, expected, paper))
    note = "Table 1 (UNet, 16 kHz) at 1 jump; Tables 12 and 13 at 8 and 16, where the paper raises nu and we do not."
    return Section(title, note, (table,), tuple(findings))


def denoising_section(groups: Groups) -> Section:
    """Table 11."""
    with_loss = [v for v in groups.students if v.method == CTM and v.denoising]
    without = [v for v in groups.students if v.method == CTM and not v.denoising]
    twins = [(v, w) for w in without for v in with_loss if (v.distance, v.match, v.others) == (
        w.distance, w.match, w.others)]
    title = "Table 11: the DSM loss"
    if not twins:
        return Section(title, "No two students were judged that differ by the DSM loss alone.")
    table = Table("With and without the DSM loss", ("student", "jumps", *(m.name for m in QUALITY)),
                  _variant_rows(groups, [v for pair in twins for v in pair], QUALITY))
    findings: list[Finding] = []
    for a, b in twins:
        for count, metric, expected, paper in (
            (1, FRECHET, EQUAL, "77.4 ≈ 77.9"), (1, KL, EQUAL, "1.70 ≈ 1.74"),
            (8, FRECHET, BETTER, "68.1 < 93.6"), (8, KL, BETTER, "1.29 < 2.28"),
            (16, FRECHET, BETTER, "65.6 < 108.7"), (16, KL, BETTER, "1.22 < 2.60"),
            (16, TOP1, BETTER, "CLAP .42 > .23"),
        ):
            claim = f"with DSM {expected.value} at {count}: {a}"
            findings.append(between(groups, a, b, at(count), claim, metric, expected, paper))
        for metric, paper in ((FRECHET, "108.7 > 77.9"), (KL, "2.60 > 1.74")):
            claim = f"without DSM 16 jumps worse than 1: {b}"
            findings.append(within(groups.students[b], at(16), at(1), claim, metric, WORSE, paper))
    return Section(title, "The paper's 8 and 16 jumps use nu 5.", (table,), tuple(findings))


def guidance_section(groups: Groups) -> Section:
    """Figures 5 and 12."""
    title = "Figures 5 and 12: nu and omega"
    students = _swept(groups)
    if not students:
        return Section(title, "No student was judged over nu.")
    rows = [row for student in students for row in student.rows() if row["gamma"] == student.table["gamma"]]
    steps = sorted({row["steps"] for row in rows if row["nu"] != 1.0})
    omegas, nus = sorted({row["omega"] for row in rows}), sorted({row["nu"] for row in rows})
    figure = heat_maps(students, steps, omegas, nus, (FRECHET, TOP1))
    findings: list[Finding] = []
    usual, last = float(students[0].table["omega"]), max(steps)
    for omega in omegas:
        for nu in (nu for nu in nus if nu > 1):
            claim = f"{last} jumps, omega {omega:g}: nu {nu:g} better than 1"
            sides = at(last, omega=omega, nu=nu), at(last, omega=omega)
            for metric in (FRECHET, TOP1):
                findings.append(within(students, *sides, claim, metric, BETTER, "better for every omega (Fig. 12)"))
    if min(omegas) < usual:
        claim = f"1 jump: omega {min(omegas):g} worse than {usual:g}"
        sides = at(1, omega=min(omegas)), at(1, omega=usual)
        findings.append(within(students, *sides, claim, TOP1, WORSE, "omega 1 is bad for any nu (Fig. 12)"))
    note = f"Student: {students[0].variant}, {len(students)} seeds. Darker is better. 1 jump with nu 1 is a preview."
    return Section(title, note, (), tuple(findings), (("guidance.png", figure),))


def _swept(groups: Groups) -> tuple[Result, ...]:
    """The students judged over nu: the reference's where it was, else any."""
    swept = {
        variant: tuple(student for student in students if any(row["nu"] != 1.0 for row in student.rows()))
        for variant, students in groups.students.items()
    }
    found = [swept[groups.reference]] if groups.reference is not None else []
    return next((students for students in (*found, *swept.values()) if students), ())


def gamma_section(groups: Groups) -> Section:
    """Table 7."""
    title = "Table 7: what stochastic sampling keeps of the 1-jump take"
    variants = [v for v, students in groups.students.items() if any(
        s.row(16, gamma=gamma) for s in students for gamma in GAMMAS if gamma != s.table["gamma"])]
    if not variants:
        return Section(title, "No student was judged over gamma.")
    variant = groups.reference if groups.reference in variants else variants[0]
    students = groups.students[variant] if variant is not None else ()
    rows = [(f"16 jumps, gamma {gamma:g}", *(cell(students, at(16, gamma=gamma), m) for m in PRESERVATION))
            for gamma in GAMMAS]
    unrelated = [student.table["unrelated"] for student in students]
    means = [f"{np.mean([of[key]['mean'] for of in unrelated]):.3g}" for key in ("embedding", "course", "lsd_db")]
    rows.append(("real clips of the class (all but the class lost)", *means))
    for ceiling in groups.ceilings:
        kept = ceiling.table["reconstructed"]
        rows.insert(0, ("codec reconstruction of a real clip", *(row_cell(kept, m) for m in PRESERVATION)))
    table = Table(f"{variant} ({len(students)} seeds)", ("", *(m.name for m in PRESERVATION)), tuple(rows))
    findings = tuple(
        within(students, at(16, gamma=0.0), at(16, gamma=gamma), f"gamma 0 keeps more than gamma {gamma:g}", metric,
               BETTER, paper)
        for gamma, paper in zip(GAMMAS[1:], ("3.34 < 5.21", "3.34 < 5.21", "3.34 < 5.34"), strict=True)
        for metric in PRESERVATION
    )
    heights = {f"gamma {gamma:g}": _mean(students, 16, gamma, KEPT_EMBEDDING) for gamma in GAMMAS}
    heights["unrelated"] = float(np.mean([of["embedding"]["mean"] for of in unrelated]))
    figure = bars("distance to the 1-jump take (embedding)", {k: v for k, v in heights.items() if math.isfinite(v)})
    note = (
        "Distance of a 16-jump take to the 1-jump take of the same prompt, seed and noise. The paper measures "
        "CLAP-LPAPS: 2.55 for its codec's reconstructions, 6.07 for unrelated real clips."
    )
    return Section(title, note, (table,), findings, (("gamma.png", figure),))


def _mean(students: tuple[Result, ...], steps: int, gamma: float, metric: Metric) -> float:
    known = [value for value in values(students, at(steps, gamma=gamma), metric) if value is not None]
    return float(np.mean(known)) if known else math.nan


def methods_section(groups: Groups) -> Section:
    """Table 2."""
    title = "Table 2: against lcd (AudioLCM) and cd (ConsistencyTTA)"
    baselines = {v.method: v for v in groups.students if v.method != CTM and not v.others}
    ours = groups.reference
    if ours is None or not baselines:
        return Section(title, "Not both a ctm student and one of lcd or cd were judged.")
    shown = (*_JUDGED, KEPT_EMBEDDING, KEPT_COURSE, KEPT_LSD)
    rows = tuple(
        (str(variant), str(count), *(cell(groups.students[variant], at(count), metric) for metric in shown))
        for variant in (ours, *baselines.values())
        for count in JUMPS
    )
    table = Table("Quality, and the distance to the 1-jump take", ("student", "jumps", *(m.name for m in shown)), rows)
    papers = {
        "lcd": ((1, FRECHET, BETTER, "2.08 < 4.04"), (1, KL, BETTER, "1.26 < 1.75"), (4, FRECHET, WORSE, "1.72 > 1.42"),
                (4, KL, BETTER, "1.22 < 1.40")),
        "cd": ((1, FRECHET, BETTER, "2.08 < 2.41"), (1, KL, BETTER, "1.26 < 1.31"), (4, FRECHET, BETTER, "1.72 < 3.01"),
               (4, KL, BETTER, "1.22 < 1.31")),
    }
    findings: list[Finding] = []
    for method, variant in baselines.items():
        for count, metric, expected, paper in papers.get(method, ()):
            claim = f"ctm {expected.value} than {method} at {count}"
            findings.append(between(groups, ours, variant, at(count), claim, metric, expected, paper))
        for count in (4, 16):
            for metric in (KEPT_EMBEDDING, KEPT_LSD):
                claim = f"ctm keeps more of its 1-jump take than {method} at {count}"
                findings.append(between(groups, ours, variant, at(count), claim, metric, BETTER, "Figures 3 and 6"))
    if "cd" in baselines:
        students = groups.students[baselines["cd"]]
        findings.append(within(students, at(4), at(1), "cd: 4 jumps worse than 1", FRECHET, WORSE, "3.01 > 2.41"))
    if "lcd" in baselines:
        students = groups.students[baselines["lcd"]]
        findings.append(within(students, at(4), at(1), "lcd: 4 jumps better than 1", FRECHET, BETTER, "1.42 < 4.04"))
    note = "lcd and cd know only jumps to sigma_min and are sampled with gamma 1; ctm with gamma 0. Equal budgets."
    return Section(title, note, (table,), tuple(findings))


def options_section(groups: Groups) -> Section | None:
    """Students that differ from the usual in another option. None where there is none."""
    variants = [variant for variant in groups.students if variant.others]
    if not variants:
        return None
    shown = [*([groups.reference] if groups.reference else []), *variants]
    table = Table("Other options", ("student", "jumps", *(m.name for m in QUALITY)),
                  _variant_rows(groups, shown, QUALITY))
    return Section("Other options of the loss", "Named is what differs from most students.", (table,))
