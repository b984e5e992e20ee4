# SPDX-License-Identifier: Apache-2.0
"""The input of a report: lines of `crossdock bench --jsonl`, and a file with times of other libraries and floors."""

import json
import math
import re
from dataclasses import MISSING, dataclass, fields

from crossdock import _core

KINDS = {str: (str,), int: (int,), float: (int, float), bool: (bool,), list: (list,)}  # type of a member -> types that json gives it
FLOOR_US, FLOOR_GBPS, FLOOR_ROW_BYTES = "barrier_kernel", "push_", 7168  # the lines of `crossdock bench --limits` that make a floor


class BadInput(Exception):
    """The input cannot be used. The text names the file, the place in it and the reason."""


class Shaped:
    """What has a time. Times of equal shapes are comparable."""

    @property
    def shape(self):
        return self.device, self.ranks, self.hidden, self.experts, self.topk


@dataclass
class Line(Shaped):
    """A timed line of a bench. Members without a default must be in the line."""

    host: str
    ranks: int
    hidden: int
    experts: int
    topk: int
    op: str
    tokens: int
    dtype: str
    scale_bytes: int
    layout: str
    path: str
    combine_quant: str
    routing: str
    mode: str
    num_sms: int
    us_median: float
    us_p99: float = 0
    wire_bytes: float = 0
    limit_gbps: float = 0
    launched_blocks: int = 0
    num_blocks: int = 0  # these three: what the caller asked for
    num_warps: int = 0
    splits_per_row: int = 0
    tuned_by: str = ""
    bit_exact: bool = False  # compared with the oracle in the same run
    commit: str = ""
    driver: str = ""
    date: str = ""

    def __post_init__(self):
        if self.us_median <= 0 or self.tokens < 1:
            raise ValueError("us_median and tokens must be more than 0")

    @property
    def device(self):
        return device_of(self.host)

    @property
    def own_geometry(self):
        """Whether the library chose blocks, warps and splits_per_row."""
        return not (self.num_blocks or self.num_warps or self.splits_per_row)

    @property
    def wire_gbps(self):
        return self.wire_bytes / self.us_median / 1e3


@dataclass
class Peer(Shaped):
    """Times of another library, as pairs of tokens and us."""

    name: str
    device: str
    ranks: int
    hidden: int
    experts: int
    topk: int
    op: str
    dtype: str
    scale_bytes: int
    points: list
    leaves_out: str
    source: str

    def __post_init__(self):
        for point in self.points:
            if not (isinstance(point, list) and len(point) == 2 and all(is_a(float, number) and number > 0 for number in point)):
                raise ValueError(f"`points` has {json.dumps(point)}, which is no pair of tokens and us")


@dataclass
class Floor:
    """us + bytes / gbps: no call over this link takes less."""

    device: str
    ranks: int
    us: float
    gbps: float
    source: str


def device_of(host):
    """ "4x NVIDIA H200" -> "NVIDIA H200" """
    return re.sub(r"^\d+x ", "", host)


def is_a(kind, value):
    return type(value) in KINDS[kind]


def value_of(record, key, kind):
    """record[key]; ValueError if it is missing or of another kind."""
    if not isinstance(record, dict) or key not in record:
        raise ValueError(f"`{key}` is missing")
    if not is_a(kind, record[key]):
        raise ValueError(f"`{key}` is {json.dumps(record[key])}")
    return record[key]


def made(kind, record):
    """An object of `kind` from the members of a JSON object. What is optional and of another type, such as null, gets its default."""
    return kind(
        **{
            member.name: value_of(record, member.name, member.type)
            for member in fields(kind)
            if member.default is MISSING or is_a(member.type, record.get(member.name))
        }
    )


def parsed(text):
    def finite(number):
        if not math.isfinite(float(number)):
            raise ValueError(f"{number} is no finite number")
        return float(number)

    return json.loads(text, parse_float=finite, parse_constant=finite)


def bytes_of(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None


def line_of(record):
    for old, new in _core._RETIRED_KEYS.items():
        if isinstance(record, dict) and old in record:
            raise ValueError(f"it is of an older version: `{old}` is called `{new}` now; rename the key")
    if isinstance(record, dict) and record.get("link_share", 0) is None:
        record = {**record, "limit_gbps": None}  # it is not the link's
    return made(Line, record)


def read_lines(paths):
    """(timed lines, floors) of the files. A floor takes the least time and the best rate that the lines of `crossdock bench --limits` have
    for a device and number of ranks; where one of them is missing there is none."""
    lines, limits = [], {}
    for path in paths:
        for number, text in enumerate(bytes_of(path).splitlines(), 1):
            where = f"{path} line {number}"
            try:
                if not text.strip():
                    continue
                record = parsed(text)
                if isinstance(record, dict) and "limit" in record:
                    add_limit(limits, record, where)
                else:
                    lines.append(line_of(record))
            except ValueError as error:
                raise BadInput(f"{where} is no line of `crossdock bench --jsonl`: {error}") from None
    if not lines:
        raise BadInput("there is no line of a timed call in the files given; `crossdock bench --jsonl` writes them")
    return lines, [Floor(*key, **found) for key, found in sorted(limits.items()) if {"us", "gbps"} <= set(found)]


def add_limit(limits, record, where):
    """Takes a line of `crossdock bench --limits` into {(device, ranks): members of a Floor} if it is better than what is there."""
    limit = value_of(record, "limit", str)
    found = limits.setdefault((device_of(value_of(record, "host", str)), value_of(record, "ranks", int)), {})
    us, gbps = (record.get(key) if is_a(float, record.get(key)) else 0 for key in ("us", "gbps"))
    if limit == FLOOR_US and 0 < us < found.get("us", math.inf):
        found["us"] = us
    elif limit.startswith(FLOOR_GBPS) and record.get("row_bytes") == FLOOR_ROW_BYTES and gbps > found.get("gbps", 0):
        found["gbps"] = gbps
    else:
        return
    found["source"] = f"`crossdock bench --limits`, {where}, {record.get('date', '')}"


def read_peers(path):
    """(peers, floors) of a file such as bench/peers.json."""
    try:
        record = parsed(bytes_of(path))
        return (
            [made(Peer, peer) for peer in value_of(record, "series", list)],
            [made(Floor, floor) for floor in value_of(record, "floors", list)],
        )
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
