# SPDX-License-Identifier: Apache-2.0
"""What the binding's Config answers in Python, and what this build offers. None of it needs a device."""

from __future__ import annotations

from typing import Any

from crossdock import _core

_SOURCE_BYTES = 16  # home rank, token, combine slot, 0: int32 each


def check_config(call: str, argument: str, config: object) -> None:
    """UsageError unless `config` is a Config."""
    if not isinstance(config, _core.Config):
        raise _core.UsageError(f"{call}: {argument} is a {type(config).__name__}; pass a crossdock.Config")


def config_from(members: dict[str, Any]) -> _core.Config:
    """The Config of a dict of members, as Config.as_dict gives it."""
    return _core.Config(**members)


def fit(config: _core.Config, num_ranks: int, budget_bytes: int, backend: str) -> _core.Config:
    """Config.fit: bisection, for more tokens never take less memory."""
    if not isinstance(budget_bytes, int):
        raise _core.UsageError(f"Config.fit: budget_bytes = {budget_bytes!r}; must be an integer")

    def fits(tokens):
        candidate = config.replace(max_tokens_per_rank=tokens)
        return bool(candidate.supports(num_ranks)) and candidate.memory(num_ranks, backend).total <= budget_bytes

    low, high = 0, (1 << 24) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0:
        least = config.replace(max_tokens_per_rank=1).memory(num_ranks, backend).total
        raise _core.ConfigError(f"Config.fit: one token takes {least} bytes, the budget is {budget_bytes}; raise it, or ask for less")
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


def union(config: _core.Config, other: object) -> _core.Config:
    """Config.union."""
    check_config("Config.union", "other", other)
    members, others = config.as_dict(), other.as_dict()
    for name, value in members.items():
        if name in _LARGER:
            members[name] = max(value, others[name])
        elif name in _CAPACITY:
            members[name] = max(value, others[name]) if value and others[name] else 0
        elif value != others[name]:
            raise _core.ConfigError(f"Config.union: {name} is {value!r} and {others[name]!r}; these cannot be one exchange")
    return config_from(members)


def _capacities(config, num_ranks):
    """Bytes by region of one Received without plans, from which capacities follow."""
    return config.replace(max_in_flight=1, max_kept_plans=0).memory(num_ranks)


def received_shape(config: _core.Config, num_ranks: int, rank: int) -> tuple[int, ...]:
    """Config.received_shape."""
    usage = _capacities(config, num_ranks)
    columns = config.hidden // 2 if config.dispatch_dtype == "fp4_e2m1" else config.hidden
    if config.layout == "token_major":
        return (usage["plan.sources"] // _SOURCE_BYTES, columns)
    rows = usage["plan.expert_sources"] // _SOURCE_BYTES
    if config.layout == "contiguous":
        return (rows, columns)
    per_rank = -(-config.num_experts // num_ranks)
    local = max(0, min(per_rank, config.num_experts - rank * per_rank))
    return (local, rows // per_rank, columns)


def token_capacity(config: _core.Config, num_ranks: int) -> int:
    """Config.token_capacity."""
    return _capacities(config, num_ranks)["plan.sources"] // _SOURCE_BYTES


def capabilities() -> dict[str, Any]:
    """What this build and machine offer, without touching a device: backends, dtypes, layouts, casts of combine, limits."""
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
