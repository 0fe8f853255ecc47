"""Sheets written as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import html
import io
import re
from typing import Sequence

from dfkd.report.layout import UNKNOWN, Cell, Gap, Sheet, notes
from dfkd.report.results import MORE_NOTE

NOTES = (
    "Accuracy in %: mean over seeds ± their standard deviation, and the mean's 95 % interval (bootstrap over test "
    "items, Student's t over seeds). Runs on a pool share its texts: how another pool would do is in no interval. "
    "Agreement is with the teacher, in %. Costs are means over the data sets; seconds are as they passed, whatever "
    "else the machine did meanwhile, and compare nothing.",
    "`*`: differs from the floor on the same items (paired, over items and seeds, p < 0.05 after Holm's correction), "
    "with two seeds or more each.",
    "Bold: better than every other data-free strategy of its column by the same test (p < 0.05 after Holm's correction "
    "for their number), with three seeds or more each.",
    "Gap closed: (strategy - floor) / (ceiling - floor) in %, of the means over the data sets, with its 95 % interval "
    "(none where a mean is of one seed); in brackets each data set's own. 'no gap': floor and ceiling differ by no "
    "more than the 95 % interval of their difference.",
)
LATEX_NOTES = (
    r"Accuracy in \%: mean over seeds $\pm$ standard deviation. $^{*}$: differs from the floor (two seeds or more); "
    r"bold: better than every other data-free strategy (three or more): paired test over items and seeds, $p<0.05$ "
    r"after Holm's correction. $^{\dagger}$: not data-free. (2/5): two of five runs. Gap closed in \%, of the means "
    r"over the data sets, with its 95\,\% interval."
)
LATEX = {  # brackets and stars as well: behind the double backslash of the line before, they would be its arguments
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", UNKNOWN: "--", "†": r"$^{\dagger}$", "±": r"$\pm$",
    "∞": r"$\infty$",
}
CSV_COLUMNS = (
    "student", "data", "strategy", "data_free", "seeds", "missing", "failed", "accuracy", "deviation", "low", "high",
    "teacher", "agreement", "gap_closed", "gap_closed_low", "gap_closed_high", "to_floor", "to_floor_low",
    "to_floor_high", "to_floor_p", "lead_p", "best", "queries", "tokens", "seconds", "seconds_whole",
)


def markdown(sheet: Sheet) -> str:
    """The table of one student, and what is to be known of it alone."""
    if not sheet.entries:
        return f"### Student: {plain(sheet.student)}\n\n{_nothing(sheet)}"
    lines = [_row(["strategy", "seeds", *map(plain, sheet.heads), *sheet.columns])]
    lines.append(_row(["---"] * (2 + len(sheet.heads) + len(sheet.columns))))
    for line in sheet.lines():
        name = plain(line.strategy) + ("" if line.data_free else " †")
        lines.append(_row([name, line.seeds, *map(_markdown_cell, line.cells), *sheet.facts(line)]))
    said = [f"- {plain(note)}" for note in notes(sheet)]
    return "\n".join([f"### Student: {plain(sheet.student)}", "", *lines, *([""] if said else []), *said])


def _nothing(sheet: Sheet) -> str:
    runs, failed = sum(gap.runs for gap in sheet.gaps.values()), sum(gap.failed for gap in sheet.gaps.values())
    tried = f", {failed} of them failed" if failed else ""
    return f"Nothing finished: {runs} run{'' if runs == 1 else 's'}{tried}."


def plain(text: str) -> str:
    """Text of data, models or users as Markdown that shows it as it is."""
    return html.escape(text, quote=False).replace("|", r"\|").replace("\n", " ")


def _markdown_cell(cell: Cell) -> str:
    if not cell.mean:
        return cell.note
    mean = f"**{cell.mean}**" if cell.best else cell.mean
    note = f" ({cell.note})" if cell.note else ""
    return f"{mean} ± {cell.deviation} {cell.bounds}{note}{'*' if cell.star else ''}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def latex(made: Sequence[Sheet], title: str = "") -> str:
    """A ``table*`` environment for each student, no wider than the page; needs ``booktabs`` and ``graphicx``.

    A student for whom nothing has finished is a sentence.
    """
    parts = [_latex_table(sheet, title) if sheet.entries else _latex_nothing(sheet, title) for sheet in made]
    return "% needs \\usepackage{booktabs,graphicx}\n" + "\n".join(parts)


def _latex_nothing(sheet: Sheet, title: str) -> str:
    return rf"\par\noindent {_caption(sheet, title)}. {_nothing(sheet)}\par" + "\n"


def _caption(sheet: Sheet, title: str) -> str:
    return escaped(f"{title}, student: {sheet.student}" if title else f"Student: {sheet.student}")


def _latex_table(sheet: Sheet, title: str) -> str:
    """Narrow enough for a page: intervals of accuracies, and gaps of single data sets, are in the other formats."""
    heads = [escaped(head) for head in ("strategy", "seeds", *sheet.datas, *sheet.columns)]
    more = [escaped(note) for note in notes(sheet) if note == MORE_NOTE]
    lines = [
        r"\begin{table*}", r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{' '.join([f'{_caption(sheet, title)}.', LATEX_NOTES, *more])}}}",
        rf"\label{{tab:{_label(sheet, title)}}}",
        # shrunk to the page where it is wider, never blown up
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", _latex_row(heads), r"\midrule",
        _latex_row(["teacher", "", *map(escaped, sheet.teacher_scores), *[""] * len(sheet.columns)]),
    ]
    for line in sheet.lines():
        name = escaped(line.strategy) + ("" if line.data_free else LATEX["†"])
        gap, *costs = sheet.facts(line)
        facts = [gap.partition("(")[0].strip(), *costs]
        lines.append(_latex_row([name, escaped(line.seeds), *map(_latex_cell, line.cells), *map(escaped, facts)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


def _label(sheet: Sheet, title: str) -> str:
    """What a text refers to the table by: letters, digits and hyphens."""
    return "-".join(re.findall(r"[A-Za-z0-9]+", f"{title} {sheet.student}")).lower()


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    if not cell.mean:
        return rf"\emph{{{escaped(cell.note)}}}"
    mean = rf"\textbf{{{cell.mean}}}" if cell.best else cell.mean
    star = "^{*}" if cell.star else ""
    return rf"{mean}${star}\,\pm\,${escaped(cell.deviation)}" + (f"~({cell.part})" if cell.part else "")


def escaped(text: str) -> str:
    """Text of data, models or users as LaTeX that shows it as it is."""
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def csv_text(made: Sequence[Sheet], title: str = "") -> str:
    """Long form: a line for each student, data set and strategy, with all numbers; empty where there is none.

    Args:
        made: the sheets.
        title: of the grid, a first column of its own; empty: none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["grid"] if title else []), *CSV_COLUMNS])
    for sheet in made:
        for data in sheet.datas:
            for line in sheet.lines():
                values = _csv_values(sheet, data, line.strategy, line.data_free)
                writer.writerow([*([title] if title else []), *(values.get(name, "") for name in CSV_COLUMNS)])
    return text.getvalue()


def _csv_values(sheet: Sheet, data: str, strategy: str, data_free: bool) -> dict[str, object]:
    """Column -> value; shares and accuracies between 0 and 1."""
    entry, gap = sheet.entries.get((data, strategy)), sheet.gaps.get((data, strategy), Gap(0, 0))
    values: dict[str, object] = {"student": sheet.student, "data": data, "strategy": strategy, "data_free": data_free}
    values |= {"seeds": 0 if entry is None else entry.runs, "missing": gap.runs, "failed": gap.failed}
    if entry is None:
        return values
    known: dict[str, object] = {
        "accuracy": entry.score.mean, "deviation": entry.deviation, "low": entry.score.low, "high": entry.score.high,
        "teacher": sheet.teachers.get(data), "agreement": entry.agreement,
        "to_floor_p": entry.p, "lead_p": entry.lead, "best": entry.best, "queries": entry.queries,
        "tokens": entry.tokens, "seconds": entry.seconds, "seconds_whole": entry.seconds_whole,
    }
    if entry.gap is not None:
        known |= dict(zip(("gap_closed", "gap_closed_low", "gap_closed_high"), entry.gap))
    if entry.difference is not None:
        mean, low, high, _ = entry.difference
        known |= {"to_floor": mean, "to_floor_low": low, "to_floor_high": high}
    return values | {name: _rounded(name, v) for name, v in known.items() if v is not None}


def _rounded(name: str, value: object) -> object:
    """A number for a file: six decimals, of a p value, which may be tiny, six digits."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if name.endswith("_p") else round(value, 6)
