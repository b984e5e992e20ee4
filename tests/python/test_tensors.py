# SPDX-License-Identifier: Apache-2.0
"""Arrays in and out: types, no copies, lifetimes, and what is refused with which words."""

import gc
import itertools
import subprocess
import sys
import threading
import typing
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch

import crossdock

TORCH = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e4m3fnuz": torch.float8_e4m3fnuz,
    "fp4_e2m1": torch.float4_e2m1fn_x2,
}
NUMPY = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f32": np.float32,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp4_e2m1": np.uint8,
}
HIDDEN, TOKENS = 32, 3


def config_of(**members):
    return crossdock.Config(
        **{**dict(hidden=HIDDEN, num_experts=4, top_k=2, max_tokens_per_rank=TOKENS, dispatch_dtype="f32", combine_dtype="f32"), **members}
    )


def alone(function, config=None, **options):
    """function(exchange) on a group of one rank."""
    return crossdock.run_ranks(1, lambda group: function(group.exchange(config or config_of(), **options)), backend="cpu")[0]


IDS = np.array([[0, 2], [1, -1], [3, 2]])


def test_every_dtype_has_arrays_of_both_frameworks():
    assert set(TORCH) == set(NUMPY) == set(crossdock.DTYPES)


@pytest.mark.parametrize(
    "dtype, as_bytes", [(d, False) for d in crossdock.DTYPES] + [(d, True) for d in crossdock.DTYPES if d.startswith("fp")]
)
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_rows_travel_byte_for_byte(dtype, as_bytes, framework):
    row_bytes = config_of(dispatch_dtype=dtype).memory(1)["buffer_set.rows"] // TOKENS
    raw = np.random.default_rng(1).integers(0, 255, (TOKENS, row_bytes), dtype=np.uint8)
    if framework == "torch":
        rows = torch.from_numpy(raw.copy()) if as_bytes else torch.from_numpy(raw.copy()).view(TORCH[dtype])
    else:
        rows = raw if as_bytes else raw.view(NUMPY[dtype])

    def job(exchange):
        received = exchange.dispatch(rows, IDS if framework == "numpy" else torch.from_numpy(IDS))
        assert received.num_rows == TOKENS
        assert received.rows.dtype == (TORCH if framework == "torch" else NUMPY)[dtype]
        return (received.rows.view(torch.uint8).numpy() if framework == "torch" else received.rows.view(np.uint8)).copy()

    np.testing.assert_array_equal(alone(job, config_of(dispatch_dtype=dtype))[:TOKENS], raw)


@pytest.mark.parametrize("dtype", crossdock.DTYPES)
def test_combine_gives_and_fills_arrays_of_its_dtype(dtype):
    config = config_of(dispatch_dtype=dtype, combine_dtype=dtype)
    columns = HIDDEN // 2 if dtype == "fp4_e2m1" else HIDDEN
    rows = (
        torch.full((TOKENS, columns), 0x22, dtype=torch.uint8).view(TORCH[dtype])
        if dtype.startswith("fp")
        else torch.ones(TOKENS, columns, dtype=TORCH[dtype])
    )
    once = torch.zeros(TOKENS, 2, dtype=torch.int32)

    def job(exchange):
        fresh = exchange.combine(received := exchange.dispatch(rows, once), received.rows)
        own = torch.empty_like(rows)
        received = exchange.dispatch(rows, once)
        assert exchange.combine(received, received.rows, out=own) is own
        return fresh, own

    for result in alone(job, config):
        assert result.dtype == rows.dtype and torch.equal(result.view(torch.uint8), rows.view(torch.uint8))


def test_outputs_are_views_of_one_memory_without_copies():
    def job(exchange):
        received = exchange.dispatch(torch.ones(TOKENS, HIDDEN), torch.zeros(TOKENS, 2, dtype=torch.int64))
        received.rows[0, 0] = 7
        assert received.rows.data_ptr() == received.rows.data_ptr() and received.rows[0, 0] == 7
        return received.rows.data_ptr() % 16

    assert alone(job) == 0


def test_tensors_of_every_kind_are_read():
    """A leaf of autograd, a subclass (whose Python attributes are asked) and an empty batch that is cut out of another."""

    class Named(torch.Tensor):
        pass

    rows = torch.arange(TOKENS * HIDDEN, dtype=torch.float32).view(TOKENS, HIDDEN)
    for given in (rows, rows.clone().requires_grad_(), rows.as_subclass(Named), torch.nn.Parameter(rows.clone())):
        assert alone(lambda e, given=given: e.dispatch(given, torch.from_numpy(IDS)).rows[:TOKENS].clone()).equal(rows)
    assert alone(lambda e: e.dispatch(rows[1:1], torch.from_numpy(IDS)[1:1]).num_rows) == 0


def test_a_torch_without_functions_of_dlpack_does_the_same():
    """torch before 2.10, whose tensors are read by their Python attributes: all tests of this file but this one."""
    program = (
        "import sys, pytest, torch; del torch.Tensor.__dlpack_c_exchange_api__; "
        "sys.exit(pytest.main([sys.argv[1], '-q', '-p', 'no:cacheprovider', '-k', 'not functions_of_dlpack']))"
    )
    done = subprocess.run([sys.executable, "-c", program, __file__], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_views_keep_the_memory_alive_after_everything_else_is_gone_and_no_longer(of):
    exchanges = []

    def job(exchange):
        exchanges.append(weakref.ref(exchange))
        return exchange.dispatch(of(np.full((TOKENS, HIDDEN), 5, np.float32)), of(IDS)).rows

    views = alone(job)
    gc.collect()
    assert (views[:TOKENS] == 5).all() and exchanges[0]()
    del views
    gc.collect()
    assert not exchanges[0]()


def test_a_consumed_received_raises_and_debug_poisons_its_views():
    def job(exchange):
        received = exchange.dispatch(torch.ones(TOKENS, HIDDEN), torch.zeros(TOKENS, 2, dtype=torch.int32))
        view = received.rows
        exchange.combine(received, received.rows)
        for use in (lambda: received.rows, lambda: received.counts, received.retain_plan, lambda: exchange.combine(received, view)):
            with pytest.raises(crossdock.StateError, match="combined before"):
                use()
        return view.isnan().all().item()

    assert alone(job, debug=True) and not alone(job, debug=False)


@pytest.mark.parametrize("on_stream", [False, True])
@pytest.mark.parametrize("layout, how", [*itertools.product(crossdock.LAYOUTS, ["combine", "dropped"]), ("token_major", "combine_fused")])
def test_debug_poisons_every_array_of_rows(layout, how, on_stream):
    fused = how == "combine_fused"
    rows, ids, scales = torch.ones(TOKENS, HIDDEN), torch.from_numpy(IDS), torch.ones(TOKENS, 2)

    def job(exchange):
        stream = crossdock.CpuStream() if on_stream else None
        for _ in range(2):  # the second dispatch finds everything as it needs it
            received = exchange.dispatch(rows, ids, None, scales, stream=stream)
            views = [received.rows, received.scales] + ([received.combine_slots(0)] if fused else [])
            if stream:
                stream.synchronize()
            weights = received.topk_weights if layout == "token_major" else received.weights
            assert received.rows.nan_to_num(0).eq(1).any() and (weights[received.sources[..., 0] < 0] == 0).all()
            if how == "combine":
                exchange.combine(received, received.rows, stream=stream)
            elif fused:
                received.combine_slots(0)[:] = 1
                out = exchange.combine_fused(received, stream=stream)
            else:
                del received
            if stream:
                stream.synchronize()
            assert all(view.isnan().all() for view in views)
            assert not fused or not out.isnan().any()
        return True

    assert alone(job, config_of(layout=layout, scale_bytes=8, fused=fused), debug=True)


def test_scales_come_back_as_the_dtype_that_was_sent():
    scales = torch.arange(TOKENS * 2, dtype=torch.float32).reshape(TOKENS, 2)

    def job(exchange):
        received = exchange.dispatch(torch.ones(TOKENS, HIDDEN), torch.zeros(TOKENS, 2, dtype=torch.int32), None, scales)
        return received.scales[:TOKENS].clone()

    assert torch.equal(alone(job, config_of(scale_bytes=8)), scales)


class OnlyDlpack:
    """An array of a framework that is neither torch nor numpy."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_anything_with_dlpack_goes_in_and_dlpack_comes_out():
    rows = np.arange(TOKENS * HIDDEN, dtype=np.float32).reshape(TOKENS, HIDDEN)

    def job(exchange):
        received = exchange.dispatch(OnlyDlpack(rows), OnlyDlpack(IDS))
        out = np.empty_like(rows)
        exchange.combine(received, received.rows, out=out)
        return out

    np.testing.assert_array_equal(alone(job), rows)


class FrozenDlpack(OnlyDlpack):
    """As numpy exports an array that may not be written: with a flag, to who understands it."""

    def __init__(self, array):
        array.flags.writeable = False
        super().__init__(array)


def test_what_may_only_be_read_goes_in_and_is_not_written_over():
    rows = np.ones((TOKENS, HIDDEN), np.float32)

    def job(exchange):
        for arguments, words in (
            (dict(out=FrozenDlpack(np.zeros((TOKENS, HIDDEN), np.float32))), "out has shape .* read-only"),
            (
                dict(out_topk_weights=FrozenDlpack(np.zeros((TOKENS, 2), np.float32)), combine_topk_weights=True),
                "out_topk_weights is read-only",
            ),
        ):
            received = exchange.dispatch(FrozenDlpack(rows.copy()), FrozenDlpack(IDS.copy()))
            with pytest.raises(crossdock.UsageError, match=words):
                exchange.combine(received, received.rows, **{"out": np.empty_like(rows), **arguments})
            del received
            assert all(not array.array.any() for array in arguments.values() if array is not True)
        return True

    assert alone(job, config_of(combine_topk_weights=True))


@pytest.mark.parametrize("tokens", [None, 0])
def test_a_rank_without_tokens_takes_part(tokens):
    def job(exchange):
        received = exchange.dispatch() if tokens is None else exchange.dispatch(torch.ones(0, HIDDEN), torch.zeros(0, 2, dtype=torch.int32))
        assert received.num_rows == 0
        return exchange.combine(received, received.rows).shape

    assert tuple(alone(job)) == (0, HIDDEN)


def test_rows_may_be_cut_where_the_host_knows_their_number():
    def job(group):
        exchange = group.exchange(config_of())
        received = exchange.dispatch(np.ones((1, HIDDEN), np.float32), IDS[:1])
        return exchange.combine(received, received.rows[: received.num_rows].copy())

    assert (np.array(crossdock.run_ranks(2, job, backend="cpu")) == 2).all()


@pytest.mark.parametrize("layout", crossdock.LAYOUTS)
def test_weights_of_tokens_are_in_every_layout_and_of_rows_where_rows_are_by_expert(layout):
    weights = np.random.default_rng(0).random((TOKENS, 2), dtype=np.float32)

    def job(exchange):
        received = exchange.dispatch(np.ones((TOKENS, HIDDEN), np.float32), IDS, weights)
        np.testing.assert_array_equal(received.topk_weights[:TOKENS], weights)
        np.testing.assert_array_equal(received.topk_ids[:TOKENS], IDS)
        if layout == "token_major":
            with pytest.raises(crossdock.StateError, match="use topk_weights"):
                received.weights  # noqa: B018
        else:
            assert received.weights.shape == received.rows.shape[:-1] and np.isclose(received.weights.sum(), weights[IDS >= 0].sum())
        return True

    assert alone(job, config_of(layout=layout))


def test_the_second_result_sums_weights():
    weights = np.random.default_rng(0).random((TOKENS, 2), dtype=np.float32)

    def job(group):
        exchange = group.exchange(config_of(combine_topk_weights=True))
        received = exchange.dispatch(np.ones((TOKENS, HIDDEN), np.float32), IDS, weights)
        return exchange.combine(received, received.rows, combine_topk_weights=True)[1]

    distinct = np.array([2, 1, 1], np.float32)  # of two ranks, experts 0 and 1 on the first
    np.testing.assert_array_equal(crossdock.run_ranks(2, job, backend="cpu")[0], weights * distinct[:, None])


def test_zero_copy_and_fused():
    def job(exchange):
        received = exchange.dispatch(torch.ones(TOKENS, HIDDEN), torch.from_numpy(IDS))
        received.combine_buffer()[:] = received.rows * 3
        assert received.combine_buffer("bf16").dtype == torch.bfloat16
        zero_copy = exchange.combine(received, received.combine_buffer())
        received = exchange.dispatch(torch.ones(TOKENS, HIDDEN), torch.from_numpy(IDS))
        received.combine_slots(0)[:] = 2
        return zero_copy.unique().tolist(), exchange.combine_fused(received)[:, 0].tolist()

    assert alone(job, config_of(zero_copy=True, fused=True)) == ([3.0], [4.0, 2.0, 4.0])


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_local_ids_and_what_is_added_to_the_result(framework):
    rows, ids = np.ones((TOKENS, HIDDEN), np.float32), IDS.astype(np.int32)
    if framework == "torch":
        rows, ids = torch.from_numpy(rows), torch.from_numpy(ids)

    def job(group):
        exchange = group.exchange(config_of())
        received = exchange.dispatch(rows, ids)
        local = received.local_ids(sentinel=9)[: received.num_rows].tolist()
        stream = crossdock.CpuStream()
        with pytest.raises(crossdock.UsageError, match="add is given with a stream"):
            exchange.combine(received, received.rows, add=rows, stream=stream)
        return local, exchange.combine(received, received.rows, add=rows * 10)[:, 0].tolist()

    first, second = crossdock.run_ranks(2, job, backend="cpu")
    assert first == ([[0, 9], [1, 9]] * 2, [12, 11, 11]) and second == ([[9, 0], [1, 0]] * 2, [12, 11, 11])


ROWS, INTS = torch.ones(TOKENS, HIDDEN), torch.zeros(TOKENS, 2, dtype=torch.int32)
BAD = {
    "x is of float64; must be float32": lambda e: e.dispatch(ROWS.double(), INTS),
    r"x has shape \[3, 16\]; must be \[rows, 32\]": lambda e: e.dispatch(ROWS[:, :16].contiguous(), INTS),
    r"x is not dense: strides \(1, 3\)": lambda e: e.dispatch(torch.ones(HIDDEN, TOKENS).t(), INTS),
    "x is not dense": lambda e: e.dispatch(np.ones((TOKENS, 2 * HIDDEN), np.float32)[:, ::2], IDS),
    r"x has the byte order of another machine, dtype '>f4'; pass x\.astype": lambda e: e.dispatch(np.ones((TOKENS, HIDDEN), ">f4"), IDS),
    "topk_ids has the byte order of another machine": lambda e: e.dispatch(np.ones((TOKENS, HIDDEN), np.float32), IDS.astype(">i4")),
    "topk_ids is of float32; must be int32 or int64": lambda e: e.dispatch(ROWS, INTS.float()),
    r"topk_ids has shape \[2, 2\]; must be \[3, 2\]": lambda e: e.dispatch(ROWS, INTS[:2]),
    "topk_ids is missing": lambda e: e.dispatch(ROWS),
    "topk_weights is of float64": lambda e: e.dispatch(ROWS, INTS, torch.ones(TOKENS, 2).double()),
    "x is a list": lambda e: e.dispatch([[1.0]], INTS),
    "num_tokens = 9; only 3 rows": lambda e: e.dispatch(ROWS, INTS, num_tokens=9),
    "num_tokens = 1099511627776; must be an integer of 32 bits": lambda e: e.dispatch(ROWS, INTS, num_tokens=2**40),
    "num_tokens = -1; must be 0 to max_tokens_per_rank": lambda e: e.dispatch(ROWS, INTS, num_tokens=-1),
    "num_sms = 'x'; must be an integer": lambda e: e.dispatch(ROWS, INTS, num_sms="x"),
    "num_warps = 1.5; must be an integer": lambda e: e.combine(e.dispatch(ROWS, INTS), ROWS, num_warps=1.5),
    "num_tokens = 4; must be 0 to max_tokens_per_rank = 3": lambda e: e.dispatch(
        torch.ones(4, HIDDEN), torch.zeros(4, 2, dtype=torch.int32)
    ),
    "lies 4 bytes past a multiple of 16": lambda e: e.dispatch(torch.ones(TOKENS * HIDDEN + 1)[1:].view(TOKENS, HIDDEN), INTS),
    "stream is a int, the group is on cpu; pass a CpuStream": lambda e: e.dispatch(ROWS, INTS, stream=3),
    "plan is a torch.Tensor": lambda e: e.dispatch(ROWS, plan=INTS),
    "routing is a torch.Tensor": lambda e: e.combine(ROWS, ROWS),
    r"out has shape \[2, 32\]": lambda e: e.combine(e.dispatch(ROWS, INTS), ROWS, out=ROWS[:2].clone()),
    "out has shape .* read-only": lambda e: e.combine(e.dispatch(np.ones((TOKENS, HIDDEN), np.float32), IDS), ROWS, out=frozen()),
    "rows has 1 rows; must have the capacity": lambda e: e.combine(e.dispatch(ROWS, INTS), ROWS[:1]),
    "combine_topk_weights needs config.combine_topk_weights": lambda e: e.combine(e.dispatch(ROWS, INTS), ROWS, combine_topk_weights=True),
    "has no memory; was it freed early": lambda e: e.dispatch(freed(), INTS),
}


def frozen():
    array = np.ones((TOKENS, HIDDEN), np.float32)
    array.flags.writeable = False
    return array


def freed():
    rows = torch.ones(TOKENS, HIDDEN)
    rows.untyped_storage().resize_(0)
    return rows


@pytest.mark.parametrize("words", list(BAD))
def test_bad_input_is_a_usage_error_with_the_values_and_the_rule(words):
    def job(exchange):
        with pytest.raises(crossdock.UsageError, match=words) as caught:
            BAD[words](exchange)
        received = exchange.dispatch(ROWS, INTS)  # nothing was enqueued: the exchange goes on
        assert torch.equal(exchange.combine(received, received.rows), ROWS)
        return str(caught.value)

    assert "on rank 0" in alone(job)


def test_a_routing_of_another_exchange_is_refused():
    def job(group):
        first, second = group.exchange(config_of()), group.exchange(config_of(top_k=3))
        received = first.dispatch(ROWS, INTS)
        with pytest.raises(crossdock.StateError, match="belongs to another exchange"):
            second.combine(received, received.rows)
        with pytest.raises(crossdock.UsageError, match="group is a str"):
            crossdock.Exchange("a group", config_of())
        return torch.equal(first.combine(received, received.rows), ROWS)

    assert crossdock.run_ranks(1, job, backend="cpu") == [True]


def test_a_second_thread_in_the_same_exchange_is_refused():
    """Rank 0's dispatch waits for rank 1, which waits for rank 0's other thread."""
    refused = threading.Event()

    def job(group):
        exchange = group.exchange(config_of())
        if group.rank == 1:
            assert refused.wait(20)
            return exchange.dispatch(ROWS, INTS).num_rows
        words = []

        def intrude():
            while not words:
                try:
                    exchange.combine(None, ROWS)
                except crossdock.StateError as error:
                    words.append(str(error))
                except crossdock.UsageError:
                    pass  # the dispatch has not begun
            refused.set()

        intruder = threading.Thread(target=intrude)
        intruder.start()
        received = exchange.dispatch(ROWS, INTS)
        intruder.join()
        return received.num_rows, words

    (rows, words), other = crossdock.run_ranks(2, job, backend="cpu")
    assert (rows, other) == (6, 0) and "another thread" in words[0]


class OnGpu:
    """What CuPy shows of an array on a GPU."""

    __cuda_array_interface__: typing.ClassVar = {"shape": (TOKENS, HIDDEN), "typestr": "<f4", "data": (16, False), "version": 3}


def test_counts_of_arrays_with_dlpack_alone():
    """Their views cannot be sliced: each count is an array of its own, and the host reads none of them."""

    def job(exchange):
        received = exchange.dispatch(OnlyDlpack(np.ones((TOKENS, HIDDEN), np.float32)), OnlyDlpack(IDS))
        host, counts = received.counts.host(), received.counts
        assert received.num_rows == host["num_rows"] == TOKENS and host["rows_per_source"] == [TOKENS]
        for name, value in host.items():
            assert np.from_dlpack(getattr(counts, name)).tolist() == (value if isinstance(value, list) else [value])
        assert np.from_dlpack(received.expert_counts).tolist() == [1, 1, 2, 1]
        with pytest.raises(crossdock.UsageError, match="neither torch's nor numpy's"):
            received.local_ids()
        return True

    assert alone(job)


def test_an_array_of_a_gpu_is_refused_by_a_group_of_the_cpu():
    def job(exchange):
        with pytest.raises(crossdock.UsageError, match="x is on a GPU, the group on cpu"):
            exchange.dispatch(OnGpu(), INTS)
        return True

    assert alone(job)


def test_capacity_is_raised_by_the_next_call_and_can_be_cleared():
    def job(group):
        exchange = group.exchange(config_of(row_capacity=2, overflow="error"))
        received = exchange.dispatch(ROWS, INTS)
        dropped = received.counts.host()["dropped_per_source"] if group.rank == 0 else None
        if group.rank == 0:
            with pytest.raises(crossdock.CapacityError, match="6 would have sufficed"):
                exchange.combine(received, ROWS[:2])
            assert exchange.poll().code == "capacity"
            exchange.clear_status()
        return dropped, exchange.combine(received, received.rows)[0, 0].item()

    assert crossdock.run_ranks(2, job, backend="cpu") == [([1, 3], 1.0), (None, 0.0)]
