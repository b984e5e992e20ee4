# SPDX-License-Identifier: Apache-2.0
"""dispatch and combine of random shapes against numpy, byte for byte."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import crossdock
import oracle

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def problems(draw, layouts=crossdock.LAYOUTS):
    num_ranks, num_experts, top_k = draw(st.integers(1, 5)), draw(st.integers(1, 11)), draw(st.integers(1, 6))
    max_tokens_per_rank, layout = draw(st.integers(1, 9)), draw(st.sampled_from(layouts))
    members = dict(
        hidden=16 * draw(st.integers(1, 3)),
        num_experts=num_experts,
        top_k=top_k,
        max_tokens_per_rank=max_tokens_per_rank,
        layout=layout,
        dispatch_dtype=draw(st.sampled_from(list(oracle.DTYPES))),
        combine_dtype=draw(st.sampled_from(["bf16", "f16", "f32", "fp8_e4m3"])),
    )
    if layout == "contiguous":
        members["alignment"] = draw(st.sampled_from([1, 8, 16, 32, 128]))
    if layout == "token_major" and draw(st.booleans()):
        members["row_capacity"] = draw(st.integers(num_ranks, num_ranks * max_tokens_per_rank))
    seed = draw(st.integers(0, 2**32 - 1))
    return (
        num_ranks,
        crossdock.Config(**members),
        draw(st.lists(st.integers(0, max_tokens_per_rank), min_size=num_ranks, max_size=num_ranks)),
        seed,
    )


def inputs_of(problem):
    """Per rank: bytes of the rows, ids with -1 and repeats, weights. Rows are finite in every type."""
    _, config, tokens, seed = problem
    random = np.random.default_rng(seed)
    rows = [random.integers(-4, 5, (t, config.hidden)).astype(np.float32).astype(oracle.DTYPES[config.dispatch_dtype]) for t in tokens]
    ids = [random.integers(-1, config.num_experts, (t, config.top_k)).astype(random.choice([np.int32, np.int64])) for t in tokens]
    weights = [random.random((t, config.top_k), dtype=np.float32) for t in tokens]
    return rows, ids, weights


def capacity_of(config, num_ranks):
    return config.row_capacity or num_ranks * config.max_tokens_per_rank


def outputs_of(config, shape, num_rows, rank, seed):
    """What the experts of a rank answer: any values of the combine type, in the layout."""
    random = np.random.default_rng([seed, rank])
    return oracle.narrow(random.normal(size=shape).astype(np.float32) * 3, config.combine_dtype)


@SETTINGS
@given(problems())
def test_dispatch_is_byte_exact_and_combine_bit_exact(problem):
    num_ranks, config, _, seed = problem
    rows, ids, weights = inputs_of(problem)

    def rank_job(group):
        exchange = group.exchange(config)
        received = exchange.dispatch(rows[group.rank], ids[group.rank], weights[group.rank])
        outputs = outputs_of(config, received.rows.shape, received.num_rows, group.rank, seed)
        seen = dict(
            num_rows=received.num_rows,
            rows=received.rows.copy(),
            ids=received.topk_ids.copy(),
            weights=weights_beside_rows(received).copy(),
            sources=received.sources.copy(),
            counts=received.expert_counts.copy(),
            host=received.counts.host(),
            offsets=None if config.layout == "token_major" else received.offsets.copy(),
            outputs=outputs,
        )
        seen["result"] = exchange.combine(received, outputs)
        return seen

    seen = crossdock.run_ranks(num_ranks, rank_job, backend="cpu")
    kept = oracle.received(ids, config.num_experts, capacity_of(config, num_ranks))
    for rank in range(num_ranks):
        check_rows(config, rank, seen[rank], kept[rank], rows, ids, weights)
    for rank in range(num_ranks):
        check_result(config, rank, seen, kept, ids, weights)


def weights_beside_rows(received):
    """[rows, top_k] where rows are by token, else one a row."""
    return received.topk_weights if received.exchange.config.layout == "token_major" else received.weights


def check_rows(config, rank, seen, kept, rows, ids, weights):
    assert seen["num_rows"] == len(kept)
    for row, (source, token) in enumerate(kept):
        np.testing.assert_array_equal(seen["ids"][row], ids[source][token])
    assert (seen["ids"][len(kept) :] == -1).all()
    if config.layout == "token_major":
        places = [(row, source, token, weights[source][token]) for row, (source, token) in enumerate(kept)]
        assert (seen["weights"][len(kept) :] == 0).all() and (seen["sources"][len(kept) :, :2] == -1).all()
    else:
        places = places_by_expert(config, rank, seen, kept, ids, weights)
    for place, source, token, weight in places:
        assert seen["rows"][place].tobytes() == rows[source][token].tobytes()
        np.testing.assert_array_equal(seen["weights"][place], weight)
        assert seen["sources"][place][:2].tolist() == [source, token]


def places_by_expert(config, rank, seen, kept, ids, weights):
    """(index, source, token, weight) of every row by expert; counts, offsets and padding are checked on the way."""
    experts = oracle.expert_rows(rank, kept, ids, config.num_experts)
    assert seen["counts"].tolist() == [len(e) for e in experts]
    places, first = [], 0
    for expert, of_expert in enumerate(experts):
        if config.layout == "contiguous":
            assert seen["offsets"][expert] == first
            end = first + -(-len(of_expert) // config.alignment) * config.alignment
            assert (seen["sources"][first + len(of_expert) : end, :2] == -1).all()
        for n, (source, token, indices) in enumerate(of_expert):
            index = (expert, n) if config.layout == "expert_major" else first + n
            places.append((index, source, token, oracle.merged_weight(weights[source][token], indices)))
        first = end if config.layout == "contiguous" else 0
    return places


def check_result(config, rank, seen, kept, ids, weights):
    result, num_ranks = seen[rank]["result"], len(seen)
    per_rank = oracle.experts_per_rank(config.num_experts, num_ranks)
    assert result.shape == (len(ids[rank]), config.hidden) and result.dtype == oracle.DTYPES[config.combine_dtype]
    for token, of_token in enumerate(ids[rank]):
        parts = []
        for other in oracle.ranks_of(of_token, per_rank, config.num_experts):
            if (rank, token) in kept[other]:
                parts.append(part_of(config, other, seen[other], kept[other], (rank, token), ids, weights))
        wanted = oracle.sum_home(parts, config.combine_dtype) if parts else np.zeros(config.hidden, oracle.DTYPES[config.combine_dtype])
        assert result[token].tobytes() == wanted.tobytes(), (token, result[token], wanted)


def part_of(config, rank, seen, kept, home, ids, weights):
    """The row that `rank` sends home for one token."""
    if config.layout == "token_major":
        return seen["outputs"][kept.index(home)]
    places = {}
    for index, source, token, weight in places_by_expert(config, rank, seen, kept, ids, weights):
        if (source, token) == home:
            expert = index[0] if config.layout == "expert_major" else int(np.searchsorted(seen["offsets"], index, "right")) - 1
            places[expert] = (index, weight)
    first = rank * oracle.experts_per_rank(config.num_experts, len(ids))
    total = np.zeros(config.hidden, np.float32)
    for expert in dict.fromkeys(int(e) - first for e in ids[home[0]][home[1]] if 0 <= e - first < len(seen["counts"])):
        index, weight = places[expert]
        total = total + weight * seen["outputs"][index].astype(np.float32)
    return oracle.narrow(total, config.combine_dtype)


@SETTINGS
@given(problems(layouts=("token_major",)), st.integers(1, 3))
def test_a_kept_plan_carries_other_rows_to_the_same_places(problem, repeats):
    num_ranks, config, _, _ = problem
    rows, ids, weights = inputs_of(problem)

    def rank_job(group):
        exchange = group.exchange(config)
        received = exchange.dispatch(rows[group.rank], ids[group.rank], weights[group.rank])
        plan, first = received.retain_plan(), received.rows[: received.num_rows].copy()
        del received
        agreed = []
        for _ in range(repeats):
            again = exchange.dispatch(rows[group.rank][:, ::-1].copy(), plan=plan)
            agreed.append(again.rows[: again.num_rows].tobytes() == first[:, ::-1].tobytes())
            del again
        return agreed

    assert all(map(all, crossdock.run_ranks(num_ranks, rank_job, backend="cpu")))
