# SPDX-License-Identifier: Apache-2.0
"""The autograd pair: gradcheck, the closed forms, a trained layer against the dense one, torch.compile."""

import copy
import functools
import threading

import pytest
import torch

import crossdock
import crossdock.torch as xd

EXPERTS, TOP_K, HIDDEN, TOKENS = 5, 3, 4, 3
IDS = [
    torch.tensor([[0, 2, 4], [1, 1, 3], [4, -1, 0]]),
    torch.tensor([[3, 4, 0], [2, 2, 2], [1, 0, 3]]),
    torch.tensor([[-1, -1, -1], [2, -1, 2], [1, 0, 3]]),
]
FACTORS = torch.arange(1.0, EXPERTS + 1)
LAYOUTS = pytest.mark.parametrize("layout", crossdock.LAYOUTS)
pytestmark = pytest.mark.filterwarnings("ignore:Input #")  # gradcheck would rather have float64


def config_of(layout, **members):
    values = dict(
        hidden=HIDDEN,
        num_experts=EXPERTS,
        top_k=TOP_K,
        max_tokens_per_rank=TOKENS,
        dispatch_dtype="f32",
        combine_dtype="f32",
        layout=layout,
        combine_topk_weights=True,
        max_kept_plans=8,
        alignment=8 if layout == "contiguous" else 1,
    )
    return crossdock.Config(**{**values, **members})


def factor_of_rows(dispatched, group, layout):
    """What the experts of this rank multiply by: [..., 1] for each row. Routing weights too where the layout leaves them to the experts."""
    per_rank = -(-EXPERTS // group.num_ranks)
    first = group.rank * per_rank
    if layout == "token_major":
        here = (dispatched.topk_ids >= first) & (dispatched.topk_ids < first + per_rank)
        return (dispatched.topk_weights * here * FACTORS[dispatched.topk_ids.clamp(min=0).long()]).sum(-1, keepdim=True)
    own = FACTORS[first : first + per_rank]
    if layout == "expert_major":
        return own.reshape(-1, 1, 1)
    expert = torch.bucketize(torch.arange(dispatched.rows.shape[0]), dispatched.offsets[1:].long(), right=True).clamp(max=len(own) - 1)
    return own[expert].unsqueeze(-1)


def layer(exchange, ids, layout, rows, weights):
    dispatched = xd.dispatch(exchange, rows, ids, weights)
    return xd.combine(dispatched, dispatched.rows * factor_of_rows(dispatched, exchange.group, layout))


def dense(ids, rows, weights):
    """The same in one line: token t times the sum of weight and factor over its ids."""
    return rows * (weights * (ids >= 0) * FACTORS[ids.clamp(min=0)]).sum(-1, keepdim=True)


def leaves(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, HIDDEN, generator=draw).requires_grad_(), torch.rand(TOKENS, TOP_K, generator=draw).requires_grad_()


@LAYOUTS
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_gradcheck_and_the_closed_form(layout, num_ranks, crossdock_ranks):
    def job(group):
        exchange, ids = group.exchange(config_of(layout)), IDS[group.rank]
        rows, weights = leaves(group.rank)
        out, wanted = layer(exchange, ids, layout, rows, weights), dense(ids, rows, weights)
        assert torch.allclose(out, wanted, atol=1e-5)
        upstream = torch.arange(float(out.numel())).reshape(out.shape)
        gradients = [torch.autograd.grad(result, (rows, weights), upstream) for result in (out, wanted)]
        for got, closed in zip(*gradients, strict=True):
            assert torch.allclose(got, closed, atol=1e-4), (got, closed)
        return torch.autograd.gradcheck(functools.partial(layer, exchange, ids, layout), (rows, weights), eps=1e-2, atol=1e-3)

    assert all(crossdock_ranks(num_ranks)(job))


@LAYOUTS
def test_a_rank_without_tokens_trains_along(layout, crossdock_ranks):
    def job(group):
        exchange = group.exchange(config_of(layout))
        rows, weights = leaves(group.rank)
        if group.rank == 1:
            rows, weights = rows.detach()[:0].requires_grad_(), weights.detach()[:0].requires_grad_()
        ids = IDS[0][: rows.shape[0]]
        out = layer(exchange, ids, layout, rows, weights)
        out.sum().backward()
        return torch.allclose(out, dense(ids, rows, weights), atol=1e-5) and weights.grad.shape == weights.shape

    assert all(crossdock_ranks(2)(job))


class Layer(torch.nn.Module):
    """A router and EXPERTS small experts, all of them on every rank; a rank calls its own."""

    def __init__(self):
        super().__init__()
        self.router = torch.nn.Linear(HIDDEN, EXPERTS)
        self.up, self.down = (torch.nn.Parameter(torch.randn(EXPERTS, *shape) / 2) for shape in ((HIDDEN, 8), (8, HIDDEN)))

    def route(self, x):
        weights, ids = self.router(x).softmax(-1).topk(2)
        return ids, weights

    def expert(self, rows, which):
        return torch.relu(rows @ self.up[which]) @ self.down[which]

    def dense(self, x):
        ids, weights = self.route(x)
        every = torch.stack([self.expert(x, e) for e in range(EXPERTS)], 1)
        return (every.gather(1, ids.unsqueeze(-1).expand(-1, -1, HIDDEN)) * weights.unsqueeze(-1)).sum(1)

    def sparse(self, x, exchange):
        ids, weights = self.route(x)
        dispatched = xd.dispatch(exchange, x, ids, weights)
        first = exchange.group.rank * -(-EXPERTS // exchange.group.num_ranks)
        if exchange.config.layout == "expert_major":
            outputs = torch.stack([self.expert(rows, first + e) for e, rows in enumerate(dispatched.rows)])
        else:
            outputs = torch.zeros_like(dispatched.rows)
            for e in range(first, first + len(dispatched.expert_counts)):
                weight = (dispatched.topk_weights * (dispatched.topk_ids == e)).sum(-1, keepdim=True)
                outputs = outputs + self.expert(dispatched.rows, e) * weight
        return xd.combine(dispatched, outputs)


def trained(model, forward, parameters_of_all, x, y, steps=25):
    """Losses of a layer trained by plain gradient descent; gradients are summed over the ranks by `parameters_of_all`."""
    losses = []
    for _ in range(steps):
        loss = ((forward(model, x) - y) ** 2).sum() / 24
        model.zero_grad()
        loss.backward()
        losses.append(parameters_of_all(model, loss.item()))
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
    return losses


@pytest.mark.parametrize("layout", ["token_major", "expert_major"])
def test_a_trained_layer_follows_the_dense_one(layout, crossdock_ranks):
    torch.manual_seed(0)
    x, y, fresh = torch.randn(24, HIDDEN), torch.randn(24, HIDDEN), Layer()
    dense_losses = trained(copy.deepcopy(fresh), lambda model, rows: model.dense(rows), lambda model, loss: loss, x, y)
    shares, ranks = {}, 3
    meeting = threading.Barrier(ranks)

    def job(group):
        def sum_over_ranks(model, loss):
            shares[group.rank] = ([p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()], loss)
            meeting.wait()
            for i, p in enumerate(model.parameters()):
                p.grad = sum(shares[r][0][i] for r in range(ranks))
            total = sum(shares[r][1] for r in range(ranks))
            meeting.wait()
            return total

        exchange = group.exchange(config_of(layout, top_k=2, max_tokens_per_rank=8))
        mine = slice(8 * group.rank, 8 * group.rank + 8)
        return trained(copy.deepcopy(fresh), lambda model, rows: model.sparse(rows, exchange), sum_over_ranks, x[mine], y[mine])

    for losses in crossdock_ranks(ranks)(job):
        assert losses == pytest.approx(dense_losses, rel=1e-4)
    assert dense_losses[-1] < 0.8 * dense_losses[0]


@pytest.mark.parametrize("layout", ["token_major", "expert_major"])
def test_compile_does_not_break_the_graph(layout):
    """In the main thread: torch's compiler does not bear being used in one thread after another."""
    with crossdock.Group.threads(1, backend="cpu")[0] as group:
        exchange = group.exchange(config_of(layout))
        number, (rows, weights), ids = xd.register(exchange), leaves(0), IDS[0]

        def eager(rows, weights):
            dispatched = xd.dispatch(number, rows * 2, ids, weights)
            return xd.combine(dispatched, dispatched.rows + 0).sum()

        compiled = torch.compile(eager, backend="aot_eager", fullgraph=True)
        leaf = (rows,) if layout == "token_major" else (rows, weights)
        gradients = [torch.autograd.grad(function(rows, weights), leaf) for function in (compiled, eager)]
        for got, wanted in zip(*gradients, strict=True):
            assert torch.equal(got, wanted)


def test_operators_pass_torchs_own_checks(crossdock_ranks):
    def job(group):
        exchange = group.exchange(config_of("expert_major"))
        rows, weights = leaves(0)
        number, checks = xd.register(exchange), ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.crossdock.dispatch, (rows, IDS[0], weights, number), test_utils=checks)
        dispatched = xd.dispatch(number, rows, IDS[0], weights)
        torch.library.opcheck(
            torch.ops.crossdock.combine,
            (dispatched.rows, weights, dispatched.weights, dispatched.topk_ids, dispatched.routing, number, TOKENS),
            test_utils=checks,
        )
        return True

    assert crossdock_ranks(1)(job) == [True]


def test_plans_are_released_with_their_tensors(crossdock_ranks):
    def job(group):
        exchange = group.exchange(config_of("token_major", max_kept_plans=1))
        rows, weights = leaves(group.rank)
        for _ in range(5):
            layer(exchange, IDS[group.rank], "token_major", rows, weights).sum().backward()
        held = xd.dispatch(exchange, rows, IDS[group.rank], weights)
        with pytest.raises(crossdock.StateError, match="max_kept_plans"):
            xd.dispatch(exchange, rows, IDS[group.rank], weights)
        return held.num_tokens

    assert crossdock_ranks(2)(job) == [TOKENS] * 2


def test_what_cannot_be_trained_says_why(crossdock_ranks):
    def job(group):
        rows, weights = leaves(0)
        with pytest.raises(crossdock.UsageError, match="must be equal"):
            xd.register(group.exchange(config_of("token_major", dispatch_dtype="fp8_e4m3", hidden=16)))
        exchange = group.exchange(config_of("token_major", combine_topk_weights=False))
        with pytest.raises(crossdock.UsageError, match="combine_topk_weights=True"):
            layer(exchange, IDS[0], "token_major", rows, weights).sum().backward()
        return True

    assert crossdock_ranks(1)(job) == [True]
