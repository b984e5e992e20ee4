# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: no script, nothing from elsewhere, light and dark, wide and narrow."""

import pathlib
import re

import jinja2

from crossdock.report.draw import svg_of
from crossdock.report.plots import best_peer, floor_us


def cells_of(line, peers, floors):
    """A row of the table of all lines, as {title of the column: cell}. What is not known is an empty text."""
    floor, best = floor_us(line, floors), best_peer(line, peers)
    gbps = line.wire_gbps
    return {
        "op": line.op,
        "tokens": line.tokens,
        "dtype": line.dtype,
        "scale bytes": line.scale_bytes or "",
        "layout": line.layout,
        "path": line.path,
        "combine_quant": line.combine_quant,
        "routing": line.routing,
        "mode": line.mode,
        "num_sms": line.num_sms or "",
        "decided by": line.tuned_by,
        "µs": f"{line.us_median:.2f}",
        "p99": f"{line.us_p99:.2f}" if line.us_p99 else "",
        "floor": f"{floor:.2f}" if floor else "",
        "\N{MULTIPLICATION SIGN} floor": f"{line.us_median / floor:.2f}" if floor else "",
        "wire GB/s": f"{gbps:.1f}" if gbps else "",
        "% of limit": f"{100 * gbps / line.limit_gbps:.1f}" if gbps and line.limit_gbps else "",
        "best other": f"{best[0]:.1f}" if best else "",
        "which": best[1] if best else "",
        "bit exact": "yes" if line.bit_exact else "not in this run",
    }


def numeric_columns(table):
    return {title for row in table for title, cell in row.items() if re.fullmatch(r"[\d.]+", str(cell))}


def sorted_lines(lines):
    return sorted(
        lines,
        key=lambda line: (
            line.op,
            line.dtype,
            line.layout,
            line.path,
            line.combine_quant,
            line.routing,
            line.mode,
            line.num_sms,
            line.tokens,
        ),
    )


def page_of(sections, peers, floors):
    """The page as text. Whatever the files say is escaped by the template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    tables = [[cells_of(line, peers, floors) for line in sorted_lines(section.lines)] for section in sections]
    facts = [
        {
            key: ", ".join(sorted({getattr(line, key) or "not said" for line in section.lines}))
            for key in ("host", "driver", "date", "commit")
        }
        for section in sections
    ]
    return environment.get_template("page.html").render(
        sections=zip(sections, facts, tables, strict=True), svg_of=svg_of, numeric_columns=numeric_columns, peers=peers, floors=floors
    )
