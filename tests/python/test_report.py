# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.report: which plots lines make, what they and the tables say, and what is refused."""

import html.parser
import itertools
import json
import os
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import PIL.Image
import pytest
from matplotlib.text import Text

from crossdock.report import __main__ as command
from crossdock.report import draw, lines, plots

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASELINES = [str(ROOT / "bench" / "baselines" / name) for name in ("h200x4.jsonl", "h200x2.jsonl")]
LINE = {
    "op": "dispatch",
    "ranks": 4,
    "tokens": 1,
    "hidden": 7168,
    "experts": 256,
    "topk": 8,
    "dtype": "bf16",
    "scale_bytes": 0,
    "layout": "token_major",
    "path": "staged",
    "combine_quant": "none",
    "routing": "random",
    "num_sms": 0,
    "mode": "graph",
    "us_median": 6.0,
    "us_p99": None,
    "wire_bytes": 38000,
    "limit_gbps": 357,
    "host": "4x NVIDIA H200",
    "driver": "580",
    "date": "2026-11-22",
    "commit": "abc",
}
PEER = {
    "name": "NCCL EP",
    "device": "NVIDIA H200",
    "ranks": 4,
    "hidden": 7168,
    "experts": 256,
    "topk": 8,
    "op": "dispatch",
    "dtype": "bf16",
    "scale_bytes": 0,
    "points": [[1, 18.6], [128, 39.4]],
    "leaves_out": "handles",
    "source": "measured here",
}
PEERS = {
    "series": [
        PEER,
        {**PEER, "device": "AMD MI355X", "name": "MORI-EP", "source": "published <there>"},
        {**PEER, "op": "combine", "name": "DeepEP", "points": [[1, 11.6]]},
    ],
    "floors": [{"device": "NVIDIA H200", "ranks": 4, "us": 2.3, "gbps": 357, "source": "measured"}],
}
BARRIER = {"limit": "barrier_kernel", "ranks": 4, "us": 2.5, "gbps": None, "host": "4x NVIDIA H200", "date": "today"}


def timed(op="dispatch", tokens=1, us=6.0, **more):
    return {**LINE, "op": op, "tokens": tokens, "us_median": us, "wire_bytes": 38000 * tokens, **more}


def rate(limit, row_bytes, gbps):
    return {"limit": limit, "ranks": 4, "us": None, "gbps": gbps, "row_bytes": row_bytes, "host": "4x NVIDIA H200"}


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """report(records, *flags, peers=...) -> (exit code, stdout, stderr), in a folder where times.jsonl has the records."""
    monkeypatch.chdir(tmp_path)

    def run(records, *flags, peers=PEERS):
        pathlib.Path("times.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        pathlib.Path("peers.json").write_text(json.dumps(peers))
        code = command.main(["times.jsonl", "--peers", "peers.json", *flags])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def plotted(report):
    """plotted(records) -> {name: Plot}."""

    def run(records, peers=PEERS):
        assert report(records, "--list", peers=peers)[0] == 0
        peer_times, floors = lines.read_peers("peers.json")
        read, measured = lines.read_lines(["times.jsonl"])
        return {plot.name: plot for section in plots.sections_of(read, peer_times, measured or floors) for plot in section.plots}

    return run


class Tables(html.parser.HTMLParser):
    """The tables of a page, each as rows of {title of the column: text}."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.row, self.text = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.titles, rows = None, []
            self.tables.append(rows)
        if tag == "tr":
            self.row = []
        if tag in ("td", "th"):
            self.text = ""

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.row.append(self.text.strip())
            self.text = None
        if tag == "tr" and self.titles:
            self.tables[-1].append(dict(zip(self.titles, self.row, strict=True)))
        elif tag == "tr":
            self.titles = self.row


def page(report, records, **more):
    code, _, error = report(records, "-o", "page.html", **more)
    assert code == 0, error
    return pathlib.Path("page.html").read_text()


def drawn(plot):
    """{label: (x, y)} of the lines in the figure that matplotlib draws."""
    (axes,) = draw.figure_of(plot).axes
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_times_stand_beside_the_floor_and_peers_of_the_same_machine(plotted):
    found = plotted([timed(tokens=128, us=20), timed(), timed("combine", us=5), timed("combine", us=4, path="zero_copy")])
    dispatch = found["dispatch-bf16-4xh200"]
    assert (dispatch.title, dispatch.host) == ("dispatch, bf16", "4x NVIDIA H200")
    assert drawn(dispatch) == {
        "NCCL EP": ([1, 128], [18.6, 39.4]),
        "Crossdock": ([1, 128], [6, 20]),
        "floor": ([1, 128], pytest.approx([2.3 + 38 / 357, 2.3 + 38 * 128 / 357])),
    }
    assert list(drawn(found["combine-bf16-4xh200"])) == ["DeepEP", "Crossdock, staged", "Crossdock, zero-copy", "floor"]
    assert "Crossdock: 1 token, 6.00 µs; 128 tokens, 20.00 µs." in dispatch.description


def test_a_figure_has_its_axes_texts_and_looks(plotted):
    figure = draw.figure_of(plotted([timed(tokens=128, us=20), timed()])["dispatch-bf16-4xh200"])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "log", "tokens per rank", "µs per call")
    assert [text.get_text() for text in figure.texts] == ["dispatch, bf16", "4x NVIDIA H200"]
    assert sorted(text.get_text() for text in axes.texts) == ["Crossdock", "NCCL EP", "floor"], "a label for each line"
    assert list(axes.get_xticks()) == [1, 128]
    other, ours, bound = axes.lines
    assert other.get_color() == draw.OTHER and ours.get_color() == draw.OURS[0] and bound.get_linestyle() == "--"
    assert bound.get_marker() == "None" and other.get_markerfacecolor() == draw.GROUND


def test_labels_do_not_lie_upon_each_other(plotted):
    peers = [{**PEER, "name": f"library {i} with a long name", "points": [[1, 10 + i / 100], [128, 40 + i / 100]]} for i in range(7)]
    figure = draw.figure_of(plotted([timed(tokens=128, us=40), timed()], {**PEERS, "series": peers})["dispatch-bf16-4xh200"])
    figure.canvas.draw()
    boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)  # without their thin lines
    assert len(boxes) == 9 and boxes[0].y0 >= 0 and boxes[-1].y1 <= draw.TOP + 22 and max(box.x1 for box in boxes) <= figure.bbox.x1
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_rates_are_shares_of_the_limit_and_of_sms(plotted):
    found = plotted(
        [
            timed(tokens=4096, us=480, launched_blocks=132),
            timed(tokens=4096, us=600, num_sms=8),
            timed(tokens=4096, us=500, num_sms=16),
            timed(tokens=128, us=30, num_sms=8),
            timed(tokens=128, us=29, num_sms=16),
        ]
    )
    assert drawn(found["share-4xh200"]) == {"dispatch bf16": ([4096], [pytest.approx(100 * 38000 * 4096 / 480e3 / 357)])}
    sms = found["sms-4xh200"]
    assert sms.title == "rate against SMs, 4096 tokens"
    assert drawn(sms) == {
        "dispatch bf16": ([8, 16, 132], pytest.approx([38 * 4096 / 600, 38 * 4096 / 500, 38 * 4096 / 480])),
        "limit of the link": ([8, 16, 132], [357] * 3),
    }
    assert sms.series[0].points[2][2].startswith("132 blocks, unrestricted")
    assert draw.figure_of(sms).axes[0].get_yscale() == "linear"


def test_a_limit_of_something_else_than_the_link_is_no_limit(plotted):
    assert list(plotted([timed(link_share=None)])) == ["dispatch-bf16-4xh200"]


@pytest.mark.parametrize("odd", [{"layout": "expert_major"}, {"num_blocks": 8}, {"routing": "zipf"}, {"combine_quant": "fp8_direct_cast"}])
def test_only_the_plain_case_is_drawn_and_the_table_has_every_line(report, plotted, odd):
    assert plotted([timed(**odd)]) == {}
    table, _ = Tables(page(report, [timed(**odd)])).tables
    assert len(table) == 1 and table[0]["best other"] == ("18.6" if "num_blocks" in odd else "")


def test_eager_lines_are_drawn_where_there_are_no_others(plotted):
    assert drawn(plotted([timed(mode="eager", us=9), timed(us=6)])["dispatch-bf16-4xh200"])["Crossdock"] == ([1], [6])
    assert drawn(plotted([timed(mode="eager", us=9)])["dispatch-bf16-4xh200"])["Crossdock"] == ([1], [9])


def test_of_two_lines_about_one_call_the_last_is_drawn(plotted):
    assert drawn(plotted([timed(us=9), timed(us=7)])["dispatch-bf16-4xh200"])["Crossdock"] == ([1], [7])


def test_without_bytes_there_is_no_floor(report, plotted):
    assert list(drawn(plotted([timed(wire_bytes=None)])["dispatch-bf16-4xh200"])) == ["NCCL EP", "Crossdock"]
    (row,) = Tables(page(report, [timed(wire_bytes=None)])).tables[0]
    assert [row[title] for title in ("floor", "\N{MULTIPLICATION SIGN} floor", "wire GB/s", "% of limit")] == [""] * 4


def test_names_of_plots_are_unique(plotted):
    assert list(plotted([timed(), timed(hidden=4096)])) == [
        "dispatch-bf16-4xh200",
        "share-4xh200",
        "dispatch-bf16-4xh200-2",
        "share-4xh200-2",
    ]


def test_the_floor_is_of_the_same_file_where_both_constants_are(report, plotted):
    def floor(*limits):
        return drawn(plotted([timed(tokens=1000, us=120), *limits])["dispatch-bf16-4xh200"])["floor"][1]

    of_file = [pytest.approx(2.3 + 38e3 / 357)]
    assert floor(BARRIER) == of_file and floor(BARRIER, rate("push_bulk", 14336, 380), rate("pull_load", 7168, 390)) == of_file
    both = [BARRIER, rate("push_store", 7168, 300), rate("push_bulk", 7168, 350), rate("push_bulk", 7168, 340)]
    assert floor(*both) == [pytest.approx(2.5 + 38e3 / 350)]
    sources = Tables(page(report, [timed(), *both])).tables[-1]
    assert sources[-1]["name"] == "floor: 2.5 µs + bytes / 350 GB/s" and sources[-1]["source"].startswith(
        "`crossdock bench --limits`, times.jsonl line 4"
    )
    assert not any("357" in source["name"] for source in sources), "the file's floor is not used, so not listed"


def test_the_table_has_the_right_figures_in_its_cells(report):
    table, sources = Tables(
        page(
            report,
            [
                timed(tokens=128, us=20, us_p99=21.5, bit_exact=True, tuned_by="rule"),
                timed("pair", us=12),
                timed(scale_bytes=224, num_sms=8),
            ],
        )
    ).tables
    assert [(row["op"], row["num_sms"], row["tokens"]) for row in table] == [
        ("dispatch", "", "128"),
        ("dispatch", "8", "1"),
        ("pair", "", "1"),
    ]
    floor = 2.3 + 38 * 128 / 357
    assert table[0] == {
        "op": "dispatch",
        "tokens": "128",
        "dtype": "bf16",
        "scale bytes": "",
        "layout": "token_major",
        "path": "staged",
        "combine_quant": "none",
        "routing": "random",
        "mode": "graph",
        "num_sms": "",
        "decided by": "rule",
        "µs": "20.00",
        "p99": "21.50",
        "floor": f"{floor:.2f}",
        "\N{MULTIPLICATION SIGN} floor": f"{20 / floor:.2f}",
        "wire GB/s": f"{38 * 128 / 20:.1f}",
        "% of limit": f"{100 * 38 * 128 / 20 / 357:.1f}",
        "best other": "39.4",
        "which": "NCCL EP",
        "bit exact": "yes",
    }
    assert table[1]["scale bytes"] == "224" and table[1]["best other"] == "", "other scales make another call"
    assert table[2]["floor"] == f"{2 * 2.3 + 38 / 357:.2f}" and table[2]["bit exact"] == "not in this run"
    assert [(row["name"], row["machine"], row["tokens: µs"], row["leaves out"], row["source"]) for row in sources[:2]] == [
        ("NCCL EP", "4x NVIDIA H200", "1: 18.6, 128: 39.4", "handles", "measured here"),
        ("MORI-EP", "4x AMD MI355X", "1: 18.6, 128: 39.4", "handles", "published <there>"),
    ]
    assert sources[3]["name"] == "floor: 2.3 µs + bytes / 357 GB/s" and sources[3]["source"] == "measured"


def test_the_fastest_other_is_of_the_same_call(report):
    slow = {**PEER, "name": "slow", "points": [[1, 30]]}
    table = Tables(page(report, [timed(), timed(tokens=2), timed("pair")], peers={**PEERS, "series": [slow, *PEERS["series"]]})).tables[0]
    assert [(row["best other"], row["which"]) for row in table] == [("18.6", "NCCL EP"), ("", ""), ("", "")]


def test_a_page_stands_alone(report):
    text = page(report, [timed(driver="<script>alert(1)</script>&"), timed(tokens=128, us=20)])
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text and "published &lt;there&gt;" in text
    for elsewhere in (' src="', ' href="http', 'href="//', "url(http", "@import"):
        assert elsewhere not in text
    for part in ("prefers-color-scheme:dark", "viewport", "<title", "<desc", "MORI-EP", "2026-11-22", "abc"):
        assert part in text


def test_the_page_of_the_baselines_has_every_line_and_plot(tmp_path, capsys):
    assert command.main([*BASELINES, "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(names) == 10 and "dispatch-bf16-4xh200" in names
    assert command.main([*BASELINES, "-o", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg ") == text.count("<figure>") == len(names) and all(f'id="{name}-title"' in text for name in names)
    *tables, sources = Tables(text).tables
    for path, table in zip(BASELINES, tables, strict=True):
        records = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
        assert sorted(row["µs"] for row in table) == sorted(f"{record['us_median']:.2f}" for record in records)
    shipped = json.loads((ROOT / "bench" / "peers.json").read_text())
    assert [(row["name"], row["source"]) for row in sources[: len(shipped["series"])]] == [
        (one["name"], one["source"]) for one in shipped["series"]
    ]


def test_pictures_are_svg_and_png(report):
    records = [timed(), timed(tokens=64, us=20)]
    assert report(records, "--pictures", "new/folder")[0] == 0
    assert sorted(os.listdir("new/folder")) == [
        f"{name}.{kind}" for name in ("dispatch-bf16-4xh200", "share-4xh200") for kind in ("png", "svg")
    ]
    with PIL.Image.open("new/folder/dispatch-bf16-4xh200.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000 and len(image.convert("RGB").getcolors(1 << 20)) > 10, "it is not blank"
        assert "Crossdock: 1 token, 6.00 µs" in image.text["Description"]
    assert report(records, "--svg", "share-4xh200", "-o", "one.svg")[0] == report(records, "--png", "share-4xh200", "-o", "one.png")[0] == 0
    for kind in ("svg", "png"):
        assert pathlib.Path(f"one.{kind}").read_bytes() == pathlib.Path(f"new/folder/share-4xh200.{kind}").read_bytes(), (
            "the same on every run"
        )


def test_an_svg_stands_alone_with_notes_and_two_schemes(plotted):
    text = draw.svg_of(plotted([timed(), timed(tokens=64, us=20)])["dispatch-bf16-4xh200"])
    root = ElementTree.fromstring(text)
    names = {"svg": draw.SVG}
    assert root.tag == f"{{{draw.SVG}}}svg" and root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [root.find("svg:title", names).get("id"), root.find("svg:desc", names).get("id")]
    assert [title.text for title in root.iterfind(".//svg:use/svg:title", names)] == [
        "NCCL EP: 1 token, 18.60 µs",
        "NCCL EP: 128 tokens, 39.40 µs",
        "Crossdock: 1 token, 6.00 µs",
        "Crossdock: 64 tokens, 20.00 µs",
    ]
    assert "Crossdock" in [element.text for element in root.iterfind(".//svg:text", names)], "texts are texts, not outlines"
    style = root.find(".//svg:style", names).text
    for light, dark in draw.DARK.items():
        assert (
            f'[style*="fill: {light}"]{{fill:{dark}!important}}' in style
            and f'[style*="stroke: {light}"]{{stroke:{dark}!important}}' in style
        )
    drawn_colors = {word.rstrip(";") for element in root.iter() for word in element.get("style", "").split() if word.startswith("#")}
    assert drawn_colors and drawn_colors <= set(draw.DARK), "every colour has one for dark ground"
    assert "nan" not in text and "http" not in text.replace(draw.SVG, "").replace(draw.XLINK, "")


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(
        weight * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
        for weight, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


@pytest.mark.parametrize("scheme", [{color: color for color in draw.DARK}, draw.DARK], ids=["light", "dark"])
def test_texts_and_lines_have_the_contrast_that_readers_need(scheme):
    for color, least in {draw.INK: 4.5, draw.SOFT: 4.5, draw.OTHER: 3, **dict.fromkeys(draw.OURS, 4.5)}.items():
        bright, dim = sorted((luminance(scheme[color]), luminance(scheme[draw.GROUND])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= least, color


@pytest.mark.parametrize(
    "records, flags, words",
    [
        ([LINE, {}], ["-o", "p"], "times.jsonl line 2 is no line of `crossdock bench --jsonl`: `host` is missing"),
        ([LINE, 3], ["-o", "p"], "times.jsonl line 2 is no line of"),
        ([timed(tokens="many")], ["-o", "p"], '`tokens` is "many"'),
        ([timed(us=None)], ["-o", "p"], "`us_median` is null"),
        ([timed(us=0.0)], ["-o", "p"], "line 1 is no line of `crossdock bench --jsonl`: us_median and tokens must be more than 0"),
        ([timed(us=float("nan"))], ["-o", "p"], "NaN is no finite number"),
        ([{**LINE, "wire": "none"}], ["-o", "p"], "it is of an older version: `wire` is called `combine_quant` now; rename the key"),
        ([], ["-o", "p"], "there is no line of a timed call in the files given; `crossdock bench --jsonl` writes them"),
        ([BARRIER], ["-o", "p"], "there is no line of a timed call"),
        ([LINE], ["missing", "-o", "p"], "cannot read missing: No such file or directory"),
        ([LINE], [".", "-o", "p"], "cannot read .: Is a directory"),
        ([LINE], [], "-o,--out is required"),
        ([LINE], ["-o", "/no/such/folder/p"], "cannot write /no/such/folder/p: No such file"),
        ([LINE], ["--pictures", "times.jsonl"], "cannot write times.jsonl: File exists"),
        ([LINE], ["--svg", "abacus", "-o", "p"], "--svg: there is no plot `abacus`; there are dispatch-bf16-4xh200, share-4xh200"),
        ([timed(routing="zipf")], ["--png", "abacus", "-o", "p"], "--png: there is no plot `abacus`; there are none"),
        ([LINE], ["--peers", "times.jsonl", "-o", "p"], "times.jsonl: `series` is missing"),
        ([LINE], ["--peers", "nowhere"], "cannot read nowhere"),
        ([LINE], ["--frobnicate"], "unrecognized arguments: --frobnicate (see `crossdock report --help`)"),
        ([LINE], ["--svg", "a", "--png", "b"], "not allowed with argument --svg"),
    ],
)
def test_bad_input_is_refused_in_one_line(report, records, flags, words):
    code, out, error = report(records, *flags)
    assert code == 2 and words in error and error.startswith("crossdock: ") and error.count("\n") == 1 and not out, error
    assert not os.path.exists("p")


@pytest.mark.parametrize(
    "text, words",
    [
        (b"no json\n", "line 1 is no line of"),
        (b"\xff\xfe\n", "line 1 is no line of"),
        (json.dumps(LINE).encode() + b'\n\n{"limit": 3}\n', "line 3 is no line of `crossdock bench --jsonl`: `limit` is 3"),
    ],
)
def test_files_that_are_no_lines_are_refused(report, tmp_path, text, words):
    (tmp_path / "odd").write_bytes(text)
    code, _, error = report([LINE], "odd", "-o", "p")
    assert code == 2 and f"odd {words}" in error, error


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": None}, "peers.json: `name` is null"),
        ({"points": [[1, 0]]}, "peers.json: `points` has [1, 0]"),
        ({"points": [3]}, "`points` has 3"),
        ({"ranks": "4"}, '`ranks` is "4"'),
    ],
)
def test_a_file_of_peers_that_is_none_is_refused(report, change, words):
    code, _, error = report([LINE], "-o", "p", peers={**PEERS, "series": [{**PEER, **change}]})
    assert code == 2 and words in error, error


@pytest.mark.parametrize(
    "module, package, flags", [("matplotlib", "matplotlib", ["--png", "share-4xh200", "-o", "p"]), ("jinja2", "Jinja2", ["-o", "p"])]
)
def test_without_the_extra_one_sentence_names_it(report, monkeypatch, module, package, flags):
    monkeypatch.setitem(sys.modules, module, None)
    for name in [
        name for name in sys.modules if name.startswith(f"{module}.") or name in ("crossdock.report.draw", "crossdock.report.page")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("crossdock.report.draw")
    code, _, error = report([LINE], *flags)
    assert (code, error) == (1, f"crossdock: a report needs {package}, which is not installed: pip install 'crossdock[report]'\n")
    assert report([LINE], "--list")[0] == 0, "names need no picture"


def test_the_package_brings_the_times_of_others_outside_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pathlib.Path(command.shipped_peers()).read_text() == (ROOT / "bench" / "peers.json").read_text()
    monkeypatch.chdir(ROOT / "docs")
    assert pathlib.Path(command.shipped_peers()) == ROOT / "bench" / "peers.json"


def test_the_command_hands_over(tmp_path):
    binary = ROOT / "build" / "release" / "bin" / "crossdock"
    if not binary.exists():
        pytest.skip("the command is not built; tests/cli has the hand-over by itself")
    (tmp_path / "times.jsonl").write_text(json.dumps(LINE) + "\n")
    done = subprocess.run(
        [str(binary), "report", "times.jsonl", "--list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert done.returncode == 0 and done.stdout.split()[0] == "dispatch-bf16-4xh200", done.stderr
