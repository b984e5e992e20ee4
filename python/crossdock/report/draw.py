# SPDX-License-Identifier: Apache-2.0
"""Pictures of plots by matplotlib: SVG for light and dark ground, PNG for light ground."""

import io
import textwrap
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 390, 330, 46, 270, 266, 40  # in points, from the lower left; a phone shows them at nearly 1:1
LABEL_X, LABEL_LETTERS, LABEL_STEP, TEXT = 278, 17, 13.5, 11.5
# Colours on light ground and, by DARK, on dark ground. The hues are those of Okabe and Ito, which the colour-blind tell apart. Text has a
# contrast of 4.5:1 or more, lines 3:1.
GROUND, INK, SOFT, GRID, OTHER = "#ffffff", "#1d2430", "#5a6472", "#e3e6ea", "#7b8594"
OURS = ["#0067a8", "#c04a00", "#00785a", "#7d3c98", "#8a6d00", "#b0307a"]
DARK = {
    GROUND: "#14181f",
    INK: "#e8ebf0",
    SOFT: "#a3adba",
    GRID: "#2a313c",
    OTHER: "#8994a3",
    **dict(zip(OURS, ["#5cb8f0", "#ff9a57", "#3fce9f", "#d0a2f0", "#e3c04f", "#f58fc4"], strict=True)),
}
OUR_MARKS, OTHER_MARKS = "osD^v", "osD^vph"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE = (
    "svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif!important}\n"
    "@media (prefers-color-scheme:dark){\n"
    + "".join(f'[style*="{what}: {light}"]{{{what}:{dark}!important}}\n' for light, dark in DARK.items() for what in ("fill", "stroke"))
    + "}"
)


def figure_of(plot):
    """The plot as a figure of matplotlib; the line of series i has the id `series-i`."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=GROUND)
    axes = figure.add_axes([LEFT / WIDTH, BOTTOM / HEIGHT, (RIGHT - LEFT) / WIDTH, (TOP - BOTTOM) / HEIGHT], facecolor=GROUND)
    figure.text(12 / WIDTH, 1 - 20 / HEIGHT, plot.title, fontsize=13.5, fontweight="bold", color=INK)
    figure.text(12 / WIDTH, 1 - 37 / HEIGHT, plot.host, fontsize=TEXT, color=SOFT)
    axes.set_xlabel(plot.x_title, color=SOFT, fontsize=TEXT)
    axes.set_ylabel(plot.y_title, color=SOFT, fontsize=TEXT, rotation=0, ha="left")
    axes.yaxis.set_label_coords((12 - LEFT) / (RIGHT - LEFT), 1 + 8 / (TOP - BOTTOM))
    looks = looks_of(plot.series)
    for number, (series, look) in enumerate(zip(plot.series, looks, strict=True)):
        x, y, _ = zip(*series.points, strict=True)
        axes.plot(x, y, gid=f"series-{number}", label=series.label, clip_on=False, **look)
    set_scales(axes, plot)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=SOFT, labelsize=TEXT - 1)
    axes.spines[:].set_visible(False)
    add_labels(axes, plot.series, [look["color"] for look in looks])
    return figure


def looks_of(series):
    """Keywords of a line for each series: ours in colours, others in grey with hollow marks, bounds dashed and without marks."""
    ours, others, looks = 0, 0, []
    for look in (one.look for one in series):
        if look == "ours":
            color = OURS[ours % len(OURS)]
            looks.append({"color": color, "linewidth": 2, "marker": OUR_MARKS[ours % len(OUR_MARKS)], "markersize": 5.5, "zorder": 4})
            ours += 1
        elif look == "other":
            looks.append(
                {
                    "color": OTHER,
                    "linewidth": 1.3,
                    "marker": OTHER_MARKS[others % len(OTHER_MARKS)],
                    "markersize": 5.5,
                    "markerfacecolor": GROUND,
                    "zorder": 3,
                }
            )
            others += 1
        else:
            looks.append({"color": INK, "linewidth": 1.3, "linestyle": (0, (5, 4)), "zorder": 2})
    return looks


def tick_text(value, _=None):
    return f"{value / 1000:.0f}k" if value >= 10000 and value % 1000 == 0 else f"{value:g}"


def set_scales(axes, plot):
    """x is logarithmic, with ticks at our values if they are few, else at powers of 4, but for those without room for their text."""
    axes.set_xscale("log")
    axes.margins(x=0.03, y=0.06)
    own = sorted({x for series in plot.series if series.look == "ours" for x, _, _ in series.points})
    least, most = axes.get_xlim()
    room = (most / least) ** (30 / (RIGHT - LEFT))  # as a factor
    ticks = []
    for tick in own if len(own) <= 8 else [4**power for power in range(16) if own[0] <= 4**power <= own[-1]]:
        if not ticks or tick >= ticks[-1] * room:
            ticks.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    if plot.y_is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(tick_text))


def add_labels(axes, series, colors):
    """A label for each series at the right, as near to the end of its line as the others leave room, with a thin line to it."""
    labels = []
    for one, color in zip(series, colors, strict=True):
        text = textwrap.wrap(one.label, LABEL_LETTERS - (one.look == "ours"), break_on_hyphens=False)
        x, y, _ = one.points[-1]
        labels.append([axes.transData.transform((x, y))[1], len(text) * LABEL_STEP + 3, "\n".join(text), (x, y), color, one.look])
    labels.sort(key=lambda label: -label[0])
    centers, edge = [], TOP + 20
    for wanted, room, *_ in labels:  # from the top down
        centers.append(min(wanted, edge - room / 2))
        edge = centers[-1] - room / 2
    edge = 4
    for i in reversed(range(len(labels))):  # what is too low goes up again
        centers[i] = max(centers[i], edge + labels[i][1] / 2)
        edge = centers[i] + labels[i][1] / 2
    for center, (_, _, text, end, color, look) in zip(centers, labels, strict=True):
        axes.annotate(
            text,
            end,
            (LABEL_X, center),
            textcoords="figure points",
            va="center",
            fontsize=TEXT,
            linespacing=1.15,
            annotation_clip=False,
            color=SOFT if look == "other" else color,
            fontweight="bold" if look == "ours" else "normal",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "alpha": 0.6, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 5},
        )


def png_of(plot, dpi=200):
    """Bytes of a PNG file, whose metadata hold the plot as text."""
    file = io.BytesIO()
    figure_of(plot).savefig(
        file, format="png", dpi=dpi, facecolor=GROUND, metadata={"Title": f"{plot.title}, {plot.host}", "Description": plot.description}
    )
    return file.getvalue()


def svg_of(plot):
    """Text of an SVG file, or a part of an HTML page: title and description for those who do not see it, a note at each mark, and colours
    for dark ground where the reader prefers it."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.name, "font.sans-serif": ["DejaVu Sans"]}):
        figure_of(plot).savefig(file, format="svg", facecolor=GROUND)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(file.getvalue())
    root.remove(root.find(f"{{{SVG}}}metadata"))
    root.find(f".//{{{SVG}}}style").text += STYLE
    for group in root.iter(f"{{{SVG}}}g"):
        kind, _, number = group.attrib.pop("id", "").partition("-")
        if kind == "series":
            series = plot.series[int(number)]
            for mark, (_, _, note) in zip(group.iter(f"{{{SVG}}}use"), series.points, strict=series.look != "bound"):
                ElementTree.SubElement(mark, f"{{{SVG}}}title").text = f"{series.label}: {note}"
    root.attrib.update({"role": "img", "aria-labelledby": f"{plot.name}-title {plot.name}-description"})
    for place, (tag, text) in enumerate((("title", f"{plot.title}, {plot.host}"), ("desc", plot.description))):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{plot.name}-{'description' if place else 'title'}"})
        element.text = text
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
