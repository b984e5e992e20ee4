# SPDX-License-Identifier: Apache-2.0
"""On GPUs (or rehearsed on the CPU): results against numpy, streams, graphs, memory pressure, training, a layer, MORI's interface.
Run by tests/python/on_gpus.py."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.distributed as dist

import crossdock
import crossdock.compat.mori as mori
import crossdock.torch as xd
from crossdock import bench_overlap

pytestmark = pytest.mark.gpu
needs_cuda = pytest.mark.needs_cuda
needs_own_gpu = pytest.mark.needs_own_gpu
TORCH = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e4m3fnuz": torch.float8_e4m3fnuz,
}


def to_device(array, device):
    """A numpy array, ml_dtypes included, as a tensor of the same bits."""
    if array.dtype.kind == "V" or array.dtype.type.__module__.startswith("ml_dtypes"):
        names = {
            ml_dtypes.bfloat16: torch.bfloat16,
            ml_dtypes.float8_e4m3fn: torch.float8_e4m3fn,
            ml_dtypes.float8_e4m3fnuz: torch.float8_e4m3fnuz,
        }
        integers = np.int16 if array.itemsize == 2 else np.uint8
        return torch.from_numpy(array.view(integers).copy()).view(names[array.dtype.type]).to(device)
    return torch.from_numpy(array.copy()).to(device)


def to_numpy(tensor, dtype=None):
    """Back: the same bits as a numpy array of `dtype`."""
    if dtype is None:
        return tensor.cpu().numpy()
    return tensor.contiguous().view(torch.uint8).cpu().numpy().view(dtype)


def problem_of(group, seed, layout, dtypes):
    """What test_properties checks, the same on every rank."""
    random = np.random.default_rng(seed)
    members = dict(
        hidden=64,
        num_experts=int(random.integers(1, 12)),
        top_k=int(random.integers(1, 6)),
        max_tokens_per_rank=int(random.integers(1, 40)),
        layout=layout,
        dispatch_dtype=dtypes[0],
        combine_dtype=dtypes[1],
        alignment=int(random.choice([1, 8, 128])) if layout == "contiguous" else 1,
    )
    tokens = [int(t) for t in random.integers(0, members["max_tokens_per_rank"] + 1, group.num_ranks)]
    return group.num_ranks, crossdock.Config(**members), tokens, seed


CONFIG = crossdock.Config(hidden=512, num_experts=8, top_k=2, max_tokens_per_rank=64)


@needs_cuda
@needs_own_gpu
def test_host_and_device_time_of_a_call(group, device):
    """Host: at most 8 us a call, or what a launch by torch takes where that is more; before other tests leave graphs and streams behind,
    with which every launch takes longer. Device: to be laid beside `crossdock bench` of the same shape."""
    exchange = group.exchange(CONFIG.replace(hidden=7168, num_experts=256, top_k=8, max_tokens_per_rank=128))
    rows, ids = (
        torch.zeros(128, 7168, dtype=torch.bfloat16, device=device),
        torch.rand(128, 256, device=device).argsort(1)[:, :8].to(torch.int32).contiguous(),
    )
    out, word, hosts, marks = torch.empty_like(rows), torch.zeros(1, device=device), [], []
    for _ in range(200):
        first, middle, last = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        first.record()
        began = time.perf_counter_ns()
        received = exchange.dispatch(rows, ids)
        dispatched = time.perf_counter_ns()
        middle.record()
        view = received.rows
        began_combine = time.perf_counter_ns()
        exchange.combine(received, view, out=out)
        combined = time.perf_counter_ns()
        last.record()
        began_launch = time.perf_counter_ns()
        word.zero_()
        hosts.append((dispatched - began, combined - began_combine, time.perf_counter_ns() - began_launch))
        marks.append((first, middle, last))
        if len(marks) % 20 == 0:
            torch.cuda.synchronize()  # the queue never fills up
    torch.cuda.synchronize()
    host = [statistics.median(column) / 1e3 for column in zip(*hosts[20:], strict=True)]
    gpu = [
        statistics.median(column) * 1e3 for column in zip(*((a.elapsed_time(b), b.elapsed_time(c)) for a, b, c in marks[20:]), strict=True)
    ]
    every = [None] * group.num_ranks
    dist.all_gather_object(every, (host, gpu))
    if group.rank == 0:
        print("\nhost us (dispatch, combine, a launch by torch), GPU us (dispatch, combine) by rank:", every)
    assert max(host[:2]) <= max(8, host[2]), host


@pytest.mark.parametrize("layout", crossdock.LAYOUTS)
@pytest.mark.parametrize("dtypes", [("bf16", "bf16"), ("f16", "f32"), ("fp8_e4m3", "bf16"), ("fp8_e4m3fnuz", "f16"), ("f32", "fp8_e4m3")])
@pytest.mark.parametrize("seed", range(4))
def test_dispatch_and_combine_against_numpy(group, device, gathered, layout, dtypes, seed):
    import oracle
    import test_properties as properties

    problem = problem_of(group, seed, layout, dtypes)
    config, rank = problem[1], group.rank
    rows, ids, weights = properties.inputs_of(problem)
    exchange = group.exchange(config)
    received = exchange.dispatch(*(to_device(x[rank], device) for x in (rows, ids, weights)))
    outputs = properties.outputs_of(config, tuple(received.rows.shape), received.num_rows, rank, seed)
    seen = dict(
        num_rows=received.num_rows,
        rows=to_numpy(received.rows, oracle.DTYPES[config.dispatch_dtype]),
        ids=to_numpy(received.topk_ids),
        weights=to_numpy(properties.weights_beside_rows(received)),
        sources=to_numpy(received.sources),
        counts=to_numpy(received.expert_counts),
        offsets=None if layout == "token_major" else to_numpy(received.offsets),
        outputs=outputs,
    )
    seen["result"] = to_numpy(exchange.combine(received, to_device(outputs, device)), oracle.DTYPES[config.combine_dtype])
    kept = oracle.received(ids, config.num_experts, properties.capacity_of(config, group.num_ranks))
    properties.check_rows(config, rank, seen, kept[rank], rows, ids, weights)
    properties.check_result(config, rank, gathered(seen), kept, ids, weights)


def inputs(device, tokens=64, rank=0):
    draw = torch.Generator().manual_seed(rank)
    rows = torch.randint(-8, 9, (tokens, 512), generator=draw).bfloat16()
    ids = torch.rand(tokens, 8, generator=draw).argsort(1)[:, :2].to(torch.int32).contiguous()
    return rows.to(device), ids.to(device)


def distinct(ids, group):
    """Ranks that each token goes to, [T, 1]."""
    owners = ids // -(-8 // group.num_ranks)
    return (1 + (owners[:, :1] != owners[:, 1:])).float()


def test_a_plan_an_addend_and_the_second_result(group, device):
    exchange = group.exchange(CONFIG.replace(combine_topk_weights=True))
    rows, ids = inputs(device, rank=group.rank)
    weights = torch.rand(64, 2, device=device)
    received = exchange.dispatch(rows, ids, weights)
    plan = received.retain_plan()
    out, sums = exchange.combine(received, received.rows, combine_topk_weights=True, add=rows)
    assert torch.equal(out.float(), rows.float() * (distinct(ids, group) + 1)) and torch.allclose(sums, weights * distinct(ids, group))
    again = exchange.dispatch(rows * 2, plan=plan)
    assert torch.equal(exchange.combine(plan, again.rows).float(), 2 * rows.float() * distinct(ids, group))


def test_a_rank_without_tokens(group, device):
    exchange = group.exchange(CONFIG)
    rows, ids = inputs(device, tokens=5, rank=group.rank)
    received = exchange.dispatch(rows, ids) if group.rank else exchange.dispatch()
    out = exchange.combine(
        received, received.rows.to(device) if group.rank == 0 else received.rows, out=torch.empty_like(rows if group.rank else rows[:0])
    )
    assert torch.equal(out.float(), (rows.float() * distinct(ids, group))[: len(out)])


def test_gradients(group, device):
    config = CONFIG.replace(dispatch_dtype="f32", combine_dtype="f32", layout="expert_major", combine_topk_weights=True)
    rows, ids = inputs(device, rank=group.rank)
    rows, weights = rows.float().requires_grad_(), torch.rand(64, 2, device=device).requires_grad_()
    dispatched = xd.dispatch(group.exchange(config), rows, ids, weights)
    out = xd.combine(dispatched, dispatched.rows * 3)
    out.backward(torch.ones_like(out))
    assert torch.allclose(out, 3 * rows * weights.sum(1, keepdim=True), rtol=1e-5)
    assert torch.allclose(rows.grad, 3 * weights.sum(1, keepdim=True).expand_as(rows), rtol=1e-5)
    assert torch.allclose(weights.grad, 3 * rows.sum(1, keepdim=True).expand_as(weights), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kernel", [mori.ops.EpDispatchCombineKernelType.IntraNode, mori.ops.EpDispatchCombineKernelType.AsyncLL])
@pytest.mark.parametrize(
    "dtype, quant",
    [(torch.bfloat16, "none"), (torch.float8_e4m3fn, "none"), (torch.bfloat16, "fp8_direct_cast"), (torch.bfloat16, "fp8_blockwise")],
)
def test_moris_interface(group, device, kernel, dtype, quant):
    mori.shmem.shmem_init_group(group)
    op = mori.ops.EpDispatchCombineOp(
        mori.ops.EpDispatchCombineConfig(
            torch.bfloat16, group.rank, group.num_ranks, 512, 0, 1, 4, 64, -(-8 // group.num_ranks), 2, kernel_type=kernel, quant_type=quant
        )
    )
    rows, ids = inputs(device, tokens=group.rank * 7, rank=group.rank)
    for _ in range(3):
        received = op.dispatch(rows.to(dtype), None, None, ids, block_num=32, call_local_expert_count=True)
        out, _ = op.combine(received[0].to(torch.bfloat16), None, ids)
        assert torch.allclose(out[: len(rows)].float(), rows.float() * distinct(ids, group), atol=1e-2, rtol=1e-1)
    assert len(op.get_dispatch_src_token_pos()) == received[4].item() and op.local_expert_count.numel() == -(-8 // group.num_ranks)


def test_an_exchange_may_be_collected_while_its_calls_are_queued(group, device):
    """`layer(group.exchange(config))`: the last reference goes when the call returns, and its kernels wait behind a pause."""
    rows, ids = inputs(device, rank=group.rank)

    def layer(exchange):
        if device.type == "cuda":
            torch.cuda._sleep(200_000_000)  # a tenth of a second
        received = exchange.dispatch(rows, ids)
        return exchange.combine(received, received.rows), weakref.ref(exchange)

    for layout in crossdock.LAYOUTS:
        results = []
        for tokens in (64, 65, 66):  # configs that no other test holds alive, the next made while the one before is under way
            out, exchange = layer(group.exchange(CONFIG.replace(max_tokens_per_rank=tokens, layout=layout)))
            assert exchange() is None
            results.append(out)
        if device.type == "cuda":
            torch.cuda.synchronize()
        wanted = rows.float() * (distinct(ids, group) if layout == "token_major" else 2)  # rows by rank, or by each of 2 experts
        for out in results:
            assert torch.equal(out.float(), wanted)


def test_an_moe_layer_against_the_dense_one(group, device):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples" / "python"))
    import moe_layer

    if moe_layer.EXPERTS % group.num_ranks == 0:
        errors = moe_layer.rank_job(group, device)
        assert errors["bf16"] < 0.01 and errors["fp8 dispatch"] < 0.05


def test_wrong_devices_are_refused(group, device):
    exchange = group.exchange(CONFIG)
    rows, ids = inputs(device)
    other = (
        rows.cpu()
        if device.type == "cuda"
        else type("OnGpu", (), {"__cuda_array_interface__": {"shape": (64, 512), "typestr": "<f2", "data": (16, False), "version": 3}})()
    )
    with pytest.raises(crossdock.UsageError, match="the group on"):
        exchange.dispatch(other, ids)


# ---- what only a GPU has -------------------------------------------------------------------------------------------------


class CudaArray:
    """A tensor as CuPy shows its arrays."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.__cuda_array_interface__ = (
            {**tensor.view(torch.int32).__cuda_array_interface__} if tensor.dtype == torch.int32 else tensor.__cuda_array_interface__
        )


@needs_cuda
def test_the_cuda_array_interface_and_dlpack(group, device):
    exchange = group.exchange(CONFIG.replace(dispatch_dtype="f32", combine_dtype="f32"))
    rows, ids = inputs(device, rank=group.rank)
    out = torch.empty(64, 512, device=device)
    received = exchange.dispatch(CudaArray(rows.float()), CudaArray(ids), stream=torch.cuda.current_stream())
    view = torch.from_dlpack(received.rows)  # what comes out of it has DLPack
    exchange.combine(received, view, out=out, stream=torch.cuda.current_stream().cuda_stream)
    assert torch.equal(out, rows.float() * distinct(ids, group))


@needs_cuda
def test_an_array_of_another_stream_is_refused(group, device):
    """Version 3 of the interface: the reader comes after the stream it names."""
    exchange = group.exchange(CONFIG.replace(dispatch_dtype="f32", combine_dtype="f32"))
    rows, ids = inputs(device, rank=group.rank)
    rows, stream = CudaArray(rows.float()), torch.cuda.Stream()
    rows.__cuda_array_interface__ |= {"version": 3, "stream": stream.cuda_stream}
    with pytest.raises(crossdock.UsageError, match=f"written on stream {stream.cuda_stream}"):
        exchange.dispatch(rows, ids, stream=torch.cuda.Stream())
    stream.wait_stream(torch.cuda.current_stream())
    received = exchange.dispatch(rows, ids, stream=stream)
    assert received.num_rows == received.counts.host()["num_rows"] == torch.from_dlpack(received.counts.num_rows).item()
    del received
    rows.__cuda_array_interface__["stream"] = None
    assert exchange.dispatch(rows, ids).num_rows >= 0


@needs_cuda
def test_calls_follow_the_current_stream(group, device):
    exchange = group.exchange(CONFIG)
    rows, ids = inputs(device, rank=group.rank)
    late, stream = torch.zeros_like(rows), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # on any other stream the rows would still be zero
        late.copy_(rows)
        received = exchange.dispatch(late, ids)
        out = exchange.combine(received, received.rows)
    stream.synchronize()
    assert torch.equal(out.float(), rows.float() * distinct(ids, group))


@needs_cuda
def test_one_graph_serves_every_number_of_tokens(group, device):
    exchange = group.exchange(CONFIG)
    rows, ids = inputs(device, rank=group.rank)
    word, out = torch.zeros(1, dtype=torch.int32, device=device), torch.zeros_like(rows)

    def step():
        received = exchange.dispatch(rows, ids, num_tokens=word)
        exchange.combine(received, received.rows, out=out)

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    wanted = rows.float() * distinct(ids, group)
    for tokens in (64, 1, 0, 33, *range(60)):
        word.fill_(tokens)
        out.zero_()
        graph.replay()
        assert torch.equal(out[:tokens].float(), wanted[:tokens]) and not out[tokens:].any()


@needs_cuda
def test_inputs_may_be_freed_at_once_under_memory_pressure(group, device, sharers):
    """The caching allocator hands freed blocks out again at once, in stream order: no record_stream is needed."""
    exchange = group.exchange(CONFIG)
    rows, ids = inputs(device, rank=group.rank)
    wanted = rows.float() * distinct(ids, group)
    free, _ = torch.cuda.mem_get_info()
    dist.barrier()
    ballast = torch.empty(int(free * 0.9 / sharers), dtype=torch.uint8, device=device)
    for step in range(200):
        own_rows, own_ids = rows.clone(), ids.clone()
        received = exchange.dispatch(own_rows, own_ids)
        del own_rows, own_ids
        junk = [torch.full_like(rows, float("nan")) for _ in range(4)]  # takes the freed blocks
        out = exchange.combine(received, received.rows)
        assert step % 20 or torch.equal(out.float(), wanted)
    del ballast, junk


@needs_cuda
def test_the_debug_mode_poisons_stale_views(group, device):
    exchange = group.exchange(CONFIG, debug=True)
    rows, ids = inputs(device, rank=group.rank)
    for stream in (None, torch.cuda.Stream()):  # the fill follows the call, on whatever stream that was
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
        received = exchange.dispatch(rows, ids, stream=stream)
        view, out = received.rows, torch.empty_like(rows)
        exchange.combine(received, view, out=out, stream=stream)
        (stream or torch.cuda.current_stream()).synchronize()
        assert view.isnan().all() and torch.equal(out.float(), rows.float() * distinct(ids, group))


@needs_cuda
@needs_own_gpu
def test_a_group_of_nccl_alone(group, device):
    """The gathers of group and exchange go over the GPUs; nothing in it knows the CPU."""
    alone = dist.new_group(backend="nccl")
    with crossdock.Group.from_torch(alone, backend="cuda", deadline=30) as joined:
        assert (joined.rank, joined.num_ranks) == (group.rank, group.num_ranks)
        rows, ids = inputs(device, rank=joined.rank)
        exchange = joined.exchange(CONFIG)
        received = exchange.dispatch(rows, ids)
        assert torch.equal(exchange.combine(received, received.rows).float(), rows.float() * distinct(ids, joined))
        torch.cuda.synchronize()
        dist.barrier()
    dist.destroy_process_group(alone)


def microseconds_of_bench(ranks, **members):
    """us_median of a pair as `crossdock bench` has it, on the same GPUs, in a process of its own."""
    options = [word for name, value in members.items() for word in (f"--{name}", str(value))]
    with tempfile.NamedTemporaryFile() as lines:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "crossdock",
                "bench",
                "--ranks",
                str(ranks),
                "--op",
                "pair",
                "--mode",
                "graph",
                "--jsonl",
                lines.name,
                *options,
            ],
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(lines.read().splitlines()[-1])["us_median"]


@needs_cuda
@needs_own_gpu
def test_device_time_from_python_is_that_of_the_bench(group, device, gathered):
    """A graph of 20 pairs, as the bench has it: nothing of Python is in a replay, so times may differ by 3 percent."""
    calls, tokens = 20, 1024
    exchange = group.exchange(crossdock.Config(hidden=7168, num_experts=256, top_k=8, max_tokens_per_rank=tokens))
    rows = torch.randn(tokens, 7168, device=device).bfloat16()  # as the bench: zeros move faster
    ids = torch.rand(tokens, 256, device=device).argsort(1)[:, :8].to(torch.int32).contiguous()
    weights, out = torch.rand(tokens, 8, device=device), torch.empty_like(rows)
    outputs = exchange.dispatch(
        rows, ids, weights
    ).rows.clone()  # of their own, as outputs of experts are: received rows may be in the cache

    def step():
        exchange.combine(exchange.dispatch(rows, ids, weights), outputs, out=out)

    step()
    torch.cuda.synchronize()
    graph, times = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        for _ in range(calls):
            step()
    for _ in range(50):
        dist.barrier()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        graph.replay()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 1e3 / calls)
    ours = statistics.median(max(of_ranks) for of_ranks in zip(*gathered(times[5:]), strict=True))
    theirs = microseconds_of_bench(group.num_ranks, tokens=tokens) if group.rank == 0 else None
    dist.barrier()
    if group.rank == 0:
        print(
            f"\npair of {tokens} tokens, {group.num_ranks} ranks: {ours:.1f} us from Python, "
            f"{theirs:.1f} us by the bench, ratio {ours / theirs:.3f}"
        )
        assert ours <= 1.03 * theirs


@needs_own_gpu
def test_calls_beside_a_product(group, device):
    """A call waits for a product on all SMs until that ends: here SMs are left to it."""
    arguments = bench_overlap.parse(
        [
            "--ranks",
            str(group.num_ranks),
            *"--tokens 64 --num-sms 8 --seconds 0.02 --matrix".split(),
            "256" if device.type == "cpu" else "8192",
        ]
    )
    try:
        lines = bench_overlap.job(group.rank, device, arguments)
    finally:
        torch._C._set_sm_carveout_experimental(None)
    assert [line["op"] for line in lines] == ["dispatch", "combine"] and not any("error" in line for line in lines), lines
    product_us = 2e-6 * 8192**3 / lines[0]["tflops"]
    assert device.type == "cpu" or all(line["us_beside"] < product_us / 4 for line in lines), lines
