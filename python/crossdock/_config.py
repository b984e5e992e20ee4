# SPDX-License-Identifier: Apache-2.0
"""Questions about a Config that need no device: can it be served, what does it cost, what serves two at once."""

from __future__ import annotations

from typing import Any, NamedTuple

from crossdock import _core

_SOURCE_BYTES = 16  # home rank, token, combine slot, 0: int32 each


class Support(NamedTuple):
    """An answer instead of an exception: true, or false with the reason."""

    ok: bool
    reason: str

    def __bool__(self):
        return self.ok


class Bill(dict[str, int]):
    """Bytes that one rank of one exchange takes, by region; `total` is exactly what is then allocated."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self["total"]


def check_config(call: str, *configs: object) -> None:
    for config in configs:
        if not isinstance(config, _core.Config):
            raise _core.UsageError(f"{call}: config is a {type(config).__name__}; pass a crossdock.Config")


def config_from(members: dict[str, Any]) -> _core.Config:
    """The Config of a dict of members, as Config.as_dict gives it."""
    return _core.Config(**members)


def supports(config: _core.Config, num_ranks: int) -> Support:
    """Whether a group of `num_ranks` can serve `config`, and why not. No side effect, needs no device."""
    return Support(*_core._supports(config, num_ranks))


def memory(config: _core.Config, num_ranks: int, backend: str = "cpu") -> Bill:
    """The bill of `config` before anything is allocated. ConfigError with the reason of `supports`."""
    return Bill(_core._bill(config, num_ranks, backend))


def fit(config: _core.Config, num_ranks: int, budget_bytes: int, backend: str = "cpu") -> _core.Config:
    """`config` with the largest max_tokens_per_rank whose bill is at most `budget_bytes`; ConfigError if not even one token fits.
    Capacities that were given stay as they are."""
    check_config("fit", config)
    if not isinstance(budget_bytes, int):
        raise _core.UsageError(f"fit: budget_bytes = {budget_bytes!r}; must be an integer")

    def fits(tokens):
        candidate = config.replace(max_tokens_per_rank=tokens)
        return bool(supports(candidate, num_ranks)) and memory(candidate, num_ranks, backend).total <= budget_bytes

    low, high = 0, (1 << 24) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0:
        least = memory(config.replace(max_tokens_per_rank=1), num_ranks, backend).total
        raise _core.ConfigError(f"fit: one token takes {least} bytes, the budget is {budget_bytes}; raise it, or ask for less")
    return config.replace(max_tokens_per_rank=low)


# How members of two configs become one that serves both; others must be equal.
_LARGER = {
    "max_tokens_per_rank",
    "top_k",
    "hidden",
    "scale_bytes",
    "max_in_flight",
    "max_kept_plans",
    "trace_events",
    "zero_padding",
    "zero_copy",
    "fused",
    "combine_topk_weights",
}
_CAPACITY = {"row_capacity", "expert_capacity"}  # 0 is the worst case


def union(a: _core.Config, b: _core.Config) -> _core.Config:
    """The config whose memory suffices for both: layers of other sizes can be planned together. ConfigError where they differ in what
    cannot be joined (types, layout, experts)."""
    check_config("union", a, b)
    members, other = a.as_dict(), b.as_dict()
    for name, value in members.items():
        if name in _LARGER:
            members[name] = max(value, other[name])
        elif name in _CAPACITY:
            members[name] = max(value, other[name]) if value and other[name] else 0
        elif value != other[name]:
            raise _core.ConfigError(f"union: {name} is {value!r} and {other[name]!r}; these cannot be one exchange")
    return config_from(members)


def received_shape(config: _core.Config, num_ranks: int, rank: int) -> tuple[int, ...]:
    """Shape of Received.rows on `rank`, with config.hidden as its last axis (fp4: hidden / 2)."""
    check_config("received_shape", config)
    bill = memory(config.replace(max_in_flight=1, max_kept_plans=0), num_ranks)
    columns = config.hidden // 2 if config.dispatch_dtype == "fp4_e2m1" else config.hidden
    if config.layout == "token_major":
        return (bill["plan.sources"] // _SOURCE_BYTES, columns)
    rows = bill["plan.expert_sources"] // _SOURCE_BYTES
    if config.layout == "contiguous":
        return (rows, columns)
    per_rank = -(-config.num_experts // num_ranks)
    local = max(0, min(per_rank, config.num_experts - rank * per_rank))
    return (local, rows // per_rank, columns)


def token_capacity(config: _core.Config, num_ranks: int) -> int:
    """Rows of Received.ids: received tokens, to the capacity."""
    check_config("token_capacity", config)
    return memory(config.replace(max_in_flight=1, max_kept_plans=0), num_ranks)["plan.sources"] // _SOURCE_BYTES


def capabilities() -> dict[str, Any]:
    """What this build and machine offer, without touching a device: backends, dtypes, layouts, wires, limits."""
    return {
        "version": _core.__version__,
        "backends": {line["backend"]: line for line in _core.backends()},
        "dtypes": _core.DTYPES,
        "layouts": _core.LAYOUTS,
        "combine_quants": _core.COMBINE_QUANTS,
        "overflow": _core.OVERFLOWS,
        "max_ranks": _core.MAX_RANKS,
        "max_top_k": _core.MAX_TOPK,
        "id_dtypes": ("int32", "int64"),
    }
