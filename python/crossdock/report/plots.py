# SPDX-License-Identifier: Apache-2.0
"""What is drawn: time against tokens, share of the link's limit, rate against SMs. A section of the report is about one host and shape."""

from dataclasses import dataclass, field


@dataclass
class Series:
    label: str
    look: str  # "ours", "other" (another library) or "bound" (no call gets past it)
    points: list  # (x, y, note); the note is shown where the pointer rests


@dataclass
class Plot:
    name: str
    title: str
    host: str
    x_title: str
    y_title: str
    y_is_log: bool
    series: list

    @property
    def description(self):
        """All that the plot shows, as text."""
        return f"{self.y_title} against {self.x_title}." + "".join(
            f" {series.label}: {'; '.join(note for _, _, note in series.points)}." for series in self.series
        )


@dataclass
class Section:
    host: str
    shape: tuple
    lines: list = field(default_factory=list)
    plots: list = field(default_factory=list)

    @property
    def slug(self):
        """4 ranks on "NVIDIA H200" -> "4xh200", for names of plots."""
        device, ranks = self.shape[:2]
        return f"{ranks}x" + "".join(c for c in device.split(" ")[-1].lower() if c.isascii() and c.isalnum())


def sections_of(lines, peers, floors):
    """A section for each host and shape, in the order of the lines, with its plots. Names of plots are unique."""
    sections, names = {}, set()
    for line in lines:
        sections.setdefault((line.host, line.shape), Section(line.host, line.shape)).lines.append(line)
    for section in sections.values():
        plain = plain_lines(section.lines)
        own_sms = [line for line in plain if line.num_sms == 0]
        for plot in [*plots_of_times(section, own_sms, peers, floors), plot_of_share(section, own_sms), plot_of_sms(section, plain)]:
            plot.series = [series for series in plot.series if series.points]
            if not any(series.look == "ours" for series in plot.series):
                continue
            name, count = plot.name, 1
            while plot.name in names:
                count += 1
                plot.name = f"{name}-{count}"
            names.add(plot.name)
            section.plots.append(plot)
    return list(sections.values())


def plain_lines(lines):
    """The plain case, in the first of these modes that has any."""
    for mode in ("graph", "graph1", "eager"):
        plain = [
            line
            for line in lines
            if (line.mode, line.layout, line.routing, line.combine_quant, line.own_geometry)
            == (mode, "token_major", "random", "none", True)
        ]
        if plain:
            return plain
    return []


def floor_us(line, floors):
    """The least time of a call with these bytes; None where the bytes or the floor of the device are not known."""
    for floor in floors:
        if line.wire_bytes > 0 and (floor.device, floor.ranks) == (line.device, line.ranks):
            return (2 if line.op == "pair" else 1) * floor.us + line.wire_bytes / floor.gbps / 1e3
    return None


def is_about(peer, line):
    """Whether the peer has times of the same call."""
    return (
        (peer.shape, peer.op, peer.dtype) == (line.shape, line.op, line.dtype)
        and (line.op == "combine" or peer.scale_bytes == line.scale_bytes)
        and (line.layout, line.routing, line.combine_quant) == ("token_major", "random", "none")
    )


def best_peer(line, peers):
    """(us, name) of the fastest peer at the same call and number of tokens, or None."""
    return min(
        ((us, peer.name) for peer in peers if is_about(peer, line) for tokens, us in peer.points if tokens == line.tokens),
        key=lambda found: found[0],
        default=None,
    )


def figure(value, unit):
    return f"{value:.2f} {unit}" if value < 100 else f"{value:.1f} {unit}"


def tokens_text(tokens):
    return f"{tokens:.0f} token{'' if tokens == 1 else 's'}"


def short_type(dtype):
    """ "fp8_e4m3" -> "fp8" """
    return dtype.split("_")[0]


def is_dispatch(op):
    """The path is about combine; these do not differ by it."""
    return op in ("dispatch", "replay")


def series_of(label, look, lines, unit, value):
    """value(line) against tokens, of the last line for each number of tokens, where it is known."""
    last = {line.tokens: line for line in lines}
    points = [(tokens, value(last[tokens]) or 0) for tokens in sorted(last)]
    return Series(label, look, [(x, y, f"{tokens_text(x)}, {figure(y, unit)}") for x, y in points if y > 0])


def values_of(lines, key):
    return list(dict.fromkeys(getattr(line, key) for line in lines))


def plots_of_times(section, plain, peers, floors):
    titles = {"dispatch": "dispatch", "combine": "combine", "pair": "dispatch, then combine", "replay": "dispatch along a kept plan"}
    for op, title in titles.items():
        for dtype in values_of([line for line in plain if line.op == op], "dtype"):
            lines = [line for line in plain if (line.op, line.dtype) == (op, dtype)]
            paths = values_of(lines, "path")[: 1 if is_dispatch(op) else None]
            series = [
                Series(peer.name, "other", [(x, y, f"{tokens_text(x)}, {figure(y, 'µs')}") for x, y in peer.points])
                for peer in peers
                if is_about(peer, lines[0])
            ]
            for path in paths:
                label = f"Crossdock, {path.replace('zero_copy', 'zero-copy')}" if len(paths) > 1 else "Crossdock"
                series.append(series_of(label, "ours", [line for line in lines if line.path == path], "µs", lambda line: line.us_median))
            series.append(series_of("floor", "bound", lines, "µs", lambda line: floor_us(line, floors)))
            yield Plot(
                f"{op}-{short_type(dtype)}-{section.slug}",
                f"{title}, {short_type(dtype)}",
                section.host,
                "tokens per rank",
                "µs per call",
                True,
                series,
            )


def kinds(lines):
    """Lines by operator, type and path, as {label: lines}."""
    found = {}
    for line in lines:
        if line.op != "pair" and not (is_dispatch(line.op) and line.path != lines[0].path):
            path = "" if is_dispatch(line.op) or line.path == "staged" else ", " + line.path.replace("zero_copy", "zero-copy")
            found.setdefault(f"{line.op} {short_type(line.dtype)}{path}", []).append(line)
    return found


def plot_of_share(section, plain):
    def share(line):
        return 100 * line.wire_gbps / line.limit_gbps if line.limit_gbps > 0 else 0

    return Plot(
        f"share-{section.slug}",
        "share of the link's limit",
        section.host,
        "tokens per rank",
        "% of the limit",
        False,
        [series_of(label, "ours", lines, "%", share) for label, lines in kinds(plain).items()],
    )


def plot_of_sms(section, plain):
    """Of the most tokens for which at least two values of num_sms were tried. A line without num_sms stands at the blocks that it took."""

    def sms_of(line):
        return line.num_sms or line.launched_blocks

    tried = {}
    for line in plain:
        if line.num_sms > 0 and line.wire_bytes > 0:
            tried.setdefault(line.tokens, set()).add(line.num_sms)
    tokens = max((tokens for tokens, sms in tried.items() if len(sms) > 1), default=0)
    lines = [line for line in plain if sms_of(line) > 0 and line.wire_bytes > 0 and line.tokens == tokens]
    plot = Plot(
        f"sms-{section.slug}", f"rate against SMs, {tokens_text(tokens)}", section.host, "SMs (num_sms)", "GB/s on the wire", False, []
    )
    for label, of_kind in kinds(lines).items():
        if any(line.num_sms for line in of_kind):
            by_sms = {sms_of(line): line for line in sorted(of_kind, key=lambda line: line.num_sms > 0)}
            plot.series.append(
                Series(
                    label,
                    "ours",
                    [
                        (
                            sms,
                            by_sms[sms].wire_gbps,
                            f"{sms} {'SMs' if by_sms[sms].num_sms else 'blocks, unrestricted'}, {figure(by_sms[sms].wire_gbps, 'GB/s')}",
                        )
                        for sms in sorted(by_sms)
                    ],
                )
            )
    limit = max((line.limit_gbps for line in lines), default=0)
    drawn = {x for series in plot.series for x, _, _ in series.points}
    plot.series.append(Series("limit of the link", "bound", [(x, limit, figure(limit, "GB/s")) for x in sorted(drawn) if limit > 0]))
    return plot
