# SPDX-License-Identifier: Apache-2.0
"""The flags of `python -m crossdock.report`. Exit codes are those of the command: 0 all is well, 1 it failed, 2 bad input."""

import argparse
import pathlib
import sys

from crossdock import _paths
from crossdock.report.lines import BadInput, read_lines, read_peers
from crossdock.report.plots import sections_of

EXTRA = {"matplotlib": "matplotlib", "jinja2": "Jinja2"}  # module: package


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise BadInput(f"{message} (see `crossdock report --help`)")


def arguments_of(words):
    parser = Parser(
        "crossdock report", description="Lines of a bench as a page of plots and tables that stands alone, or its plots as pictures"
    )
    parser.add_argument("lines", nargs="+", help="files of `crossdock bench --jsonl`")
    parser.add_argument("-o", "--out", help="the page (HTML), or the picture of --svg or --png")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--svg", metavar="PLOT", help="write the plot of this name alone, as SVG")
    one.add_argument("--png", metavar="PLOT", help="write the plot of this name alone, as PNG")
    one.add_argument("--pictures", metavar="FOLDER", help="write every plot there, as SVG and PNG, and no page")
    one.add_argument("--list", action="store_true", help="print names and titles of the plots, and nothing else")
    parser.add_argument(
        "--peers",
        metavar="FILE",
        help="times of other libraries and floors; without it bench/peers.json of the repository or of the package",
    )
    return parser.parse_intermixed_args(words)


def shipped_peers():
    """bench/peers.json of the repository that the working directory lies in, else the package's; None if there is neither."""
    here = pathlib.Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "include/crossdock/lists.h").exists() and (folder / "bench/peers.json").exists():
            return folder / "bench/peers.json"
    try:
        return _paths.peers()
    except FileNotFoundError:
        return None


def write(path, content):
    try:
        pathlib.Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None


def picture_of(plot, kind):
    from crossdock.report import draw  # matplotlib is asked for only where a picture is made

    return draw.svg_of(plot) if kind == "svg" else draw.png_of(plot)


def write_picture(plots, kind, name, path):
    for plot in plots:
        if plot.name == name:
            return write(path, picture_of(plot, kind))
    raise BadInput(f"--{kind}: there is no plot `{name}`; there are {', '.join(plot.name for plot in plots) or 'none'}")


def write_pictures(plots, folder):
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {folder}: {error.strerror}") from None
    for plot in plots:
        for kind in ("svg", "png"):
            write(f"{folder}/{plot.name}.{kind}", picture_of(plot, kind))


def report(words):
    arguments = arguments_of(words)
    path = arguments.peers or shipped_peers()
    peers, floors = read_peers(path) if path else ([], [])
    lines, measured = read_lines(arguments.lines)
    replaced = {(floor.device, floor.ranks) for floor in measured}
    floors = [floor for floor in floors if (floor.device, floor.ranks) not in replaced] + measured
    sections = sections_of(lines, peers, floors)
    plots = [plot for section in sections for plot in section.plots]
    if arguments.list:
        for plot in plots:
            print(f"{plot.name:32} {plot.title}, {plot.host}")
    elif arguments.pictures:
        write_pictures(plots, arguments.pictures)
    elif not arguments.out:
        raise BadInput("-o,--out is required")
    elif arguments.svg or arguments.png:
        write_picture(plots, "svg" if arguments.svg else "png", arguments.svg or arguments.png, arguments.out)
    else:
        from crossdock.report.page import page_of  # Jinja2, for a page only

        write(arguments.out, page_of(sections, peers, floors))


def main(words):
    try:
        report(words)
        return 0
    except BadInput as error:
        print(f"crossdock: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(f"crossdock: a report needs {EXTRA[error.name]}, which is not installed: pip install 'crossdock[report]'", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
