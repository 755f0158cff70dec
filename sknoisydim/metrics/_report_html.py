"""The card of a report that a notebook shows: one piece of HTML without scripts or files."""

from __future__ import annotations

from html import escape

from . import _report_svg as svg
from ._report import MatchReport, texts

# The colours of a notebook where it names them, else those of the browser; the two strong ones
# are middle tones, which stand out from white and from black alike.
STYLE = """
.sknoisydim-report { color-scheme: light dark; --rows: #1f6fb2; --law: #c2570c;
  --good: #1a7f45; --fair: #96690a; --bad: #c03221;
  color: var(--jp-content-font-color1, var(--vscode-editor-foreground, CanvasText));
  background: var(--jp-layout-color0, var(--vscode-editor-background, Canvas));
  font: 13px/1.45 system-ui, sans-serif; max-width: 720px; padding: 14px 16px;
  border: 1px solid; border-color: color-mix(in srgb, currentColor 25%, transparent);
  border-radius: 6px; box-sizing: border-box; }
@media (prefers-color-scheme: dark) { .sknoisydim-report { --rows: #5aa9e6; --law: #f0883e;
  --good: #3fb96f; --fair: #d29922; --bad: #f47067; } }
[data-jp-theme-light="true"] .sknoisydim-report, .vscode-light .sknoisydim-report {
  color-scheme: light; --rows: #1f6fb2; --law: #c2570c; --good: #1a7f45; --fair: #96690a;
  --bad: #c03221; }
[data-jp-theme-light="false"] .sknoisydim-report, .vscode-dark .sknoisydim-report {
  color-scheme: dark; --rows: #5aa9e6; --law: #f0883e; --good: #3fb96f; --fair: #d29922;
  --bad: #f47067; }
.sknoisydim-report .head { font-weight: 600; font-size: 14px; margin: 0 0 8px; }
.sknoisydim-report .mark { display: inline-block; border: 1.5px solid; border-radius: 4px;
  padding: 0 7px; margin-right: 6px; }
.sknoisydim-report .match { color: var(--good); }
.sknoisydim-report .close, .sknoisydim-report .unclear { color: var(--fair); }
.sknoisydim-report .different { color: var(--bad); }
.sknoisydim-report ul { margin: 6px 0 12px; padding-left: 20px; }
.sknoisydim-report li { margin: 2px 0; }
.sknoisydim-report .pictures { display: flex; flex-wrap: wrap; gap: 8px 14px; margin: 10px 0; }
.sknoisydim-report figure { margin: 0; }
.sknoisydim-report figcaption { font-size: 12px; font-weight: 600; max-width: 210px; }
.sknoisydim-report figcaption.wide { max-width: none; }
.sknoisydim-report svg { display: block; }
.sknoisydim-report svg text { fill: currentColor; font-size: 11px; }
.sknoisydim-report .axis { stroke: currentColor; stroke-opacity: .5; fill: none; }
.sknoisydim-report .band { fill: currentColor; fill-opacity: .13; }
.sknoisydim-report .law { stroke: var(--law); stroke-width: 1.5; fill: none;
  stroke-dasharray: 5 3; }
.sknoisydim-report .rows { stroke: var(--rows); stroke-width: 1.3; stroke-opacity: .75;
  fill: none; }
.sknoisydim-report .dot { fill: var(--rows); fill-opacity: .6; }
.sknoisydim-report .room { fill: currentColor; fill-opacity: .13; }
.sknoisydim-report .fill { fill: var(--rows); }
.sknoisydim-report .limit { stroke: var(--law); stroke-width: 1.5; stroke-dasharray: 5 3; }
.sknoisydim-report table { border-collapse: collapse; margin: 4px 0 0; width: 100%;
  color: inherit; font-size: 13px; background: none; }
.sknoisydim-report th, .sknoisydim-report td { text-align: right; padding: 1px 8px; border: 0;
  background: none; color: inherit; font-variant-numeric: tabular-nums; }
.sknoisydim-report th { font-weight: 600; }
.sknoisydim-report td.name, .sknoisydim-report th.name { text-align: left; }
.sknoisydim-report tr.first td { border-top: 1px solid;
  border-color: color-mix(in srgb, currentColor 25%, transparent); }
.sknoisydim-report .star { display: inline-block; width: 0; }
.sknoisydim-report dl { display: grid; grid-template-columns: auto 1fr; gap: 0 10px;
  margin: 8px 0 0; font-size: 12px; }
.sknoisydim-report dt { font-weight: 600; margin: 0; }
.sknoisydim-report dd { margin: 0; }
@media (max-width: 520px) { .sknoisydim-report { padding: 10px; }
  .sknoisydim-report table { font-size: 11px; }
  .sknoisydim-report th, .sknoisydim-report td { padding: 1px 3px; } }
"""


def card(report: MatchReport) -> str:
    """Return a report as HTML, for light and dark pages."""
    advice = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.advice)
    bars = svg.bars(
        report.information,
        report.training_information,
        report.training_reachable,
        report.training_cap,
    )
    return (
        f'<div class="sknoisydim-report"><style>{STYLE}</style>'
        f'<p class="head"><span class="mark {report.verdict}">{report.verdict}</span>'
        f"{escape(report.headline())}</p><ul>{advice}</ul>"
        '<figure><figcaption class="wide">Information, nats (shaded: what N(0, I) shows)'
        "</figcaption>"
        f"{bars}</figure>"
        f'<div class="pictures">{_figures(report)}</div>{_table(report)}{_legend(report)}</div>'
    )


def _figures(report: MatchReport) -> str:
    pictures = report.pictures
    found = [
        ("Components, quantiles", svg.components(pictures, report.n_rows)),
        ("Norm of rows, quantiles", svg.radii(pictures, report.n_components)),
    ]
    if report.max_correlation_pair:
        drawing = svg.pair(pictures, report.max_correlation_pair)
        found.append(("The pair that correlates most", drawing))
    return "".join(
        f"<figure><figcaption>{name}</figcaption>{drawing}</figure>" for name, drawing in found
    )


def _table(report: MatchReport) -> str:
    rows, group = [], None
    for line in report.lines():
        first = line.group != group
        group = line.group
        *figures, pvalue = (escape(text) for text in texts(line))
        # The star hangs over, so that the digits stand below each other.
        pvalue = pvalue.removesuffix(" *") + '<span class="star">*</span>' * line.rejected
        cells = "".join(f"<td>{text}</td>" for text in (*figures, pvalue))
        rows.append(
            f'<tr class="{"first" if first else "next"}"><td class="name">'
            f"{escape(line.group) if first else ''}</td>"
            f'<td class="name">{escape(line.quantity)}</td>{cells}</tr>'
        )
    return (
        "<table><thead><tr><th></th>"
        '<th class="name">where the target is N(0, I)</th>'
        "<th>value</th><th>perfect</th><th>p-value</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _legend(report: MatchReport) -> str:
    entries = "".join(
        f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
        for word, meaning in report.legend().items()
    )
    return f"<dl>{entries}</dl>"
