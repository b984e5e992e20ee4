# SPDX-License-Identifier: Apache-2.0
"""dispatch and combine for training: differentiable, and opaque to torch.compile.

    dispatched = dispatch(exchange, x, topk_ids, topk_weights)
    out = combine(dispatched, experts(dispatched.rows, ...))

The backward of dispatch is combine, that of combine is dispatch along the same plan; routing weights get their gradients. Every rank
must call both, and backward, in the same order. Received rows are copied out of the library's memory, since backward needs them
when other dispatches have long used it; rows beyond the count and padding are zero.

The config needs max_kept_plans for the forward passes whose backward is to come (one a layer and micro-batch), combine_topk_weights=True if
weights have gradients, and equal dispatch and combine dtypes."""

import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy
import torch
from torch import library

from crossdock import _core

_exchanges = weakref.WeakValueDictionary()  # by id: what custom operators can be given
_plans = weakref.WeakValueDictionary()


class DispatchOutput(NamedTuple):
    """What a dispatch delivered to this rank, as tensors of its own.

    rows           as Received.rows; zero beyond the count and on padding; differentiable
    topk_ids       [row_capacity, top_k] int32 global ids of the received tokens
    topk_weights   [row_capacity, top_k] float32, differentiable; None for layouts by expert
    weights        layouts by expert: float32, the routing weight of each row, which combine applies; None for token_major
    expert_counts  [local experts] int32
    offsets        [local experts + 1] int32 first row of each expert; empty for token_major
    num_rows       [1] int64

    What follows in the tuple is combine's."""

    rows: torch.Tensor
    topk_ids: torch.Tensor
    topk_weights: torch.Tensor | None
    weights: torch.Tensor | None
    expert_counts: torch.Tensor
    offsets: torch.Tensor
    num_rows: torch.Tensor
    routing: torch.Tensor  # one int64 on the CPU, whose memory owns the plan
    home_weights: torch.Tensor  # of this rank's tokens, for their gradient
    exchange: int
    num_tokens: int


def register(exchange: _core.Exchange) -> int:
    """The number under which operators know `exchange`: what to pass to dispatch inside torch.compile. Keep the exchange alive."""
    config = exchange.config
    if config.dispatch_dtype != config.combine_dtype:
        raise _core.UsageError(
            f"crossdock.torch: dispatch_dtype is {config.dispatch_dtype}, combine_dtype {config.combine_dtype}; "
            "backward swaps the two operators, so they must be equal"
        )
    _exchanges[exchange.id] = exchange
    return exchange.id


def dispatch(
    exchange: _core.Exchange | int, x: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor | None = None
) -> DispatchOutput:
    """Sends tokens x [T, hidden] to the experts named by topk_ids [T, top_k] with topk_weights [T, top_k] float32 (None: ones).
    `exchange` is an Exchange, or the number that `register` gave."""
    number = exchange if isinstance(exchange, int) else register(exchange)
    if topk_weights is None:
        topk_weights = torch.ones(topk_ids.shape, dtype=torch.float32, device=x.device)
    rows, weights, ids, counts, offsets, num_rows, routing = torch.ops.crossdock.dispatch(x, topk_ids, topk_weights, number)
    of_tokens, of_rows = (weights, None) if offsets.shape[0] == 0 else (None, weights)
    return DispatchOutput(rows, ids, of_tokens, of_rows, counts, offsets, num_rows, routing, topk_weights, number, x.shape[0])


def combine(dispatched: DispatchOutput, rows: torch.Tensor) -> torch.Tensor:
    """Brings expert outputs `rows`, of the shape of dispatched.rows, home: [T, hidden]. Layouts by expert apply the routing weights."""
    d, weights = dispatched, dispatched.topk_weights if dispatched.weights is None else dispatched.weights
    return torch.ops.crossdock.combine(rows, d.home_weights, weights, d.topk_ids, d.routing, d.exchange, d.num_tokens)


# ---- what the operators share ------------------------------------------------------------------------------------------


class _Number(numpy.ndarray):
    """The memory of a routing tensor: as long as any tensor uses it, the plan is kept."""

    plan = None


def _routing_of(plan):
    number = numpy.array([plan.id]).view(_Number)
    number.plan = plan
    _plans[plan.id] = plan
    return torch.from_numpy(number)


def _exchange_of(number):
    return _exchanges[int(number)]  # int: a compiled graph is of one exchange


def _plan_of(routing):
    return _plans[int(routing)]


def _by_token(exchange):
    return exchange.config.layout == "token_major"


def _own(received, tensor):
    """A copy of rows or gradients of received rows, with zeros where no row is."""
    nothing = received.sources[..., 0] < 0
    return tensor.masked_fill(nothing.reshape(nothing.shape + (1,) * (tensor.dim() - nothing.dim())), 0)


# ---- the operators -----------------------------------------------------------------------------------------------------


@library.custom_op("crossdock::dispatch", mutates_args=())
def _dispatch(
    x: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor, exchange: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    mine = _exchange_of(exchange)
    received = mine.dispatch(x.contiguous(), topk_ids.contiguous(), topk_weights.contiguous())
    offsets = topk_ids.new_empty(0, dtype=torch.int32) if _by_token(mine) else received.offsets.clone()
    return (
        _own(received, received.rows),
        (received.topk_weights if _by_token(mine) else received.weights).clone(),
        received.topk_ids.clone(),
        received.expert_counts.clone(),
        offsets,
        received.counts.num_rows.clone(),
        _routing_of(received.retain_plan()),
    )


@_dispatch.register_fake
def _(x, topk_ids, topk_weights, exchange):
    mine = _exchange_of(exchange)
    config, num_ranks, rank = mine.config, mine.group.num_ranks, mine.group.rank
    shape, tokens = config.received_shape(num_ranks, rank), config.token_capacity(num_ranks)
    local = max(0, min(per_rank := -(-config.num_experts // num_ranks), config.num_experts - rank * per_rank))
    numbers = {"dtype": torch.int32, "device": x.device}
    return (
        x.new_empty(shape),
        topk_weights.new_empty((tokens, config.top_k) if _by_token(mine) else shape[:-1]),
        torch.empty((tokens, config.top_k), **numbers),
        torch.empty(local, **numbers),
        torch.empty(0 if _by_token(mine) else local + 1, **numbers),
        torch.empty(1, dtype=torch.int64, device=x.device),
        torch.empty(1, dtype=torch.int64),
    )


@library.custom_op("crossdock::combine", mutates_args=())
def _combine(
    rows: torch.Tensor,
    home_weights: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    routing: torch.Tensor,
    exchange: int,
    num_tokens: int,
) -> torch.Tensor:
    return _exchange_of(exchange).combine(_plan_of(routing), rows.contiguous())


@_combine.register_fake
def _(rows, home_weights, weights, ids, routing, exchange, num_tokens):
    return rows.new_empty(num_tokens, rows.shape[-1])


@library.custom_op("crossdock::combine_both", mutates_args=())
def _combine_both(
    rows: torch.Tensor, row_weights: torch.Tensor, routing: torch.Tensor, exchange: int, num_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """combine, and rows of weights [row_capacity, top_k] summed alike."""
    out, sums = _exchange_of(exchange).combine(_plan_of(routing), rows.contiguous(), topk_weights=row_weights.contiguous())
    return out, sums


@_combine_both.register_fake
def _(rows, row_weights, routing, exchange, num_tokens):
    return rows.new_empty(num_tokens, rows.shape[-1]), row_weights.new_empty(num_tokens, row_weights.shape[-1])


@library.custom_op("crossdock::dispatch_again", mutates_args=())
def _dispatch_again(x: torch.Tensor, routing: torch.Tensor, exchange: int) -> torch.Tensor:
    """Other tokens along a kept plan."""
    received = _exchange_of(exchange).dispatch(x.contiguous(), plan=_plan_of(routing))
    return _own(received, received.rows)


@_dispatch_again.register_fake
def _(x, routing, exchange):
    mine = _exchange_of(exchange)
    return x.new_empty(mine.config.received_shape(mine.group.num_ranks, mine.group.rank))


@library.custom_op("crossdock::combine_unweighted", mutates_args=())
def _combine_unweighted(rows: torch.Tensor, ids: torch.Tensor, exchange: int) -> torch.Tensor:
    """Layouts by expert: the sum without routing weights, each pair of token and expert once. combine applies the weights that were
    dispatched, so this dispatches once more without any; then a weight is the number of times that a token names the expert."""
    mine = _exchange_of(exchange)
    received = mine.dispatch(rows.new_empty(ids.shape[0], rows.shape[-1]), ids.contiguous())
    times = received.weights.clamp(min=1).unsqueeze(-1)
    return mine.combine(received, (rows / times).to(rows.dtype).contiguous())


@_combine_unweighted.register_fake
def _(rows, ids, exchange):
    return rows.new_empty(ids.shape[0], rows.shape[-1])


# ---- gradients ---------------------------------------------------------------------------------------------------------


def _keep_dispatch(ctx, inputs, output):
    _, ids, _, ctx.exchange = inputs
    ctx.num_tokens = ids.shape[0]
    ctx.save_for_backward(ids, output[6], output[1])
    ctx.mark_non_differentiable(*output[2:], *(() if _by_token(_exchange_of(ctx.exchange)) else (output[1],)))
    ctx.set_materialize_grads(True)


def _dispatch_backward(ctx, rows, weights, *_):
    ids, routing, received_weights = ctx.saved_tensors
    if not _by_token(_exchange_of(ctx.exchange)):
        return torch.ops.crossdock.combine_unweighted(rows, ids, ctx.exchange), None, None, None
    if not ctx.needs_input_grad[2]:
        home = torch.ops.crossdock.combine(rows, received_weights, received_weights, ids, routing, ctx.exchange, ctx.num_tokens)
        return home, None, None, None
    if not _exchange_of(ctx.exchange).config.combine_topk_weights:
        raise _core.UsageError("crossdock.torch: the routing weights have a gradient, which needs config.combine_topk_weights=True")
    home, home_weights = torch.ops.crossdock.combine_both(rows, weights, routing, ctx.exchange, ctx.num_tokens)
    return home, None, home_weights, None


def _keep_combine(ctx, inputs, output):
    rows, _, weights, ids, routing, ctx.exchange, ctx.num_tokens = inputs
    ctx.save_for_backward(rows, weights, ids, routing)


def _combine_backward(ctx, out):
    rows, weights, ids, routing = ctx.saved_tensors
    mine = _exchange_of(ctx.exchange)
    sent = torch.ops.crossdock.dispatch_again(out, routing, ctx.exchange)
    if _by_token(mine):
        return sent, None, None, None, None, None, None
    home_weights = None
    if ctx.needs_input_grad[1]:
        products = (sent.float() * rows.float()).sum(-1)
        _, home_weights = torch.ops.crossdock.combine_both(sent, _to_tokens(mine, products, ids), routing, ctx.exchange, ctx.num_tokens)
    return (sent * weights.unsqueeze(-1)).to(rows.dtype), home_weights, None, None, None, None, None


def _to_tokens(exchange, values, ids):
    """One value per row by expert -> [row_capacity, top_k] beside ids; 0 where the expert lives elsewhere or kept no row."""
    config = exchange.config
    per_rank = -(-config.num_experts // exchange.group.num_ranks)
    first = exchange.group.rank * per_rank
    local = ids.to(torch.int64) - first
    here = (ids >= 0) & (local >= 0) & (local < min(per_rank, config.num_experts - first))
    if not values.numel():
        return torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    local = torch.where(here, local, 0)
    # Rows of an expert are in the order of the received tokens: the n-th token that names it has its n-th row.
    named = (
        torch.zeros(ids.shape[0], per_rank, dtype=torch.int64, device=ids.device).scatter_add_(1, local, here.to(torch.int64)).clamp(max=1)
    )
    nth = (named.cumsum(0) - 1).gather(1, local)
    if values.dim() == 2:  # [experts, capacity]
        kept, flat = nth < values.shape[1], local * values.shape[1] + nth
    else:
        padded = (named.sum(0) + config.alignment - 1) // config.alignment * config.alignment
        flat = (padded.cumsum(0) - padded)[local] + nth
        kept = flat < values.shape[0]
    kept = here & kept & (nth >= 0)
    return torch.where(kept, values.reshape(-1)[torch.where(kept, flat, 0)], 0.0)


_dispatch.register_autograd(_dispatch_backward, setup_context=_keep_dispatch)
_combine.register_autograd(_combine_backward, setup_context=_keep_combine)

if not TYPE_CHECKING:  # a type checker would believe in every attribute

    def __getattr__(name):
        _core._refuse_attribute(__name__, name)
