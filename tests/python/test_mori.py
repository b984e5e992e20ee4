# SPDX-License-Identifier: Apache-2.0
"""What MORI's users rely on, through crossdock.compat.mori, on the CPU backend."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch

import crossdock
import crossdock.compat.mori as mori

KERNELS = mori.ops.EpDispatchCombineKernelType
W, E, K, M, H = 4, 8, 3, 6, 256


def config_of(group, **members):
    values = dict(
        data_type=torch.bfloat16,
        rank=group.rank,
        world_size=group.num_ranks,
        hidden_dim=H,
        scale_dim=0,
        scale_type_size=1,
        max_token_type_size=4,
        max_num_inp_token_per_rank=M,
        num_experts_per_rank=E,
        num_experts_per_token=K,
        block_num=64,
        warp_num_per_block=4,
    )
    return mori.ops.EpDispatchCombineConfig(**{**values, **members})


class Problem:
    """What every rank sends: any number of tokens from 0 to M, some ids -1. Every rank can tell every other's."""

    def __init__(self, dtype=torch.bfloat16, scale_dim=0, scale_dtype=torch.float32, hidden=H, sentinels=True):
        self.rows, self.ids, self.weights, self.scales = [], [], [], []
        for rank in range(W):
            draw = torch.Generator().manual_seed(rank)
            tokens = (M, 0, 1, 4)[rank]
            values = torch.randint(-4, 5, (tokens, hidden), generator=draw).float()
            self.rows.append(values.to(dtype))
            ids = torch.rand(tokens, W * E, generator=draw).argsort(1)[:, :K].to(torch.int32).contiguous()
            if sentinels:
                ids[::2, 1] = -1
            self.ids.append(ids)
            self.weights.append(torch.rand(tokens, K, generator=draw))
            self.scales.append(torch.rand(tokens, scale_dim, generator=draw).to(scale_dtype) if scale_dim else None)

    def of(self, rank):
        return self.rows[rank], self.weights[rank], self.scales[rank], self.ids[rank]

    def distinct(self, rank):
        return torch.tensor([len({i // E for i in row.tolist() if i >= 0}) for row in self.ids[rank]], dtype=torch.float32).reshape(-1, 1)


def on_ranks(crossdock_ranks, job, **options):
    def run(group):
        mori.shmem.shmem_init_group(group)
        return job(group)

    return crossdock_ranks(W, **options)(run)


def check_dispatch(op, problem, answer):
    """Every row is its source's, byte for byte; sources are distinct; their number is total_recv."""
    rows, weights, scales, ids, total = answer
    positions = op.get_dispatch_src_token_pos()
    assert total.dtype == torch.int32 and len(positions) == total[0] and len(set(positions.tolist())) == len(positions)
    for row, position in enumerate(positions):
        source, token = op.decode_send_flat_idx(position)
        assert torch.equal(rows[row].view(torch.uint8), problem.rows[source][token].view(torch.uint8))
        assert torch.equal(weights[row], problem.weights[source][token]) and torch.equal(ids[row], problem.ids[source][token])
        if scales is not None:
            assert torch.equal(scales[row], problem.scales[source][token])


@pytest.mark.parametrize("kernel", [KERNELS.IntraNode, KERNELS.IntraNodeLL, KERNELS.AsyncLL])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e4m3fnuz])
@pytest.mark.parametrize("external", [True, False])
def test_dispatch_and_combine(kernel, dtype, external, crossdock_ranks):
    problem = Problem(dtype, scale_dim=4)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(
            config_of(group, kernel_type=kernel, use_external_inp_buf=external, scale_dim=4, scale_type_size=4, data_type=dtype)
        )
        for _ in range(2):
            rows, weights, scales, ids = problem.of(group.rank)
            answer = op.dispatch(rows, weights, scales, ids, block_num=32, warp_per_block=4, call_local_expert_count=True)
            check_dispatch(op, problem, answer)
            assert answer[0].shape == (op.max_num_tokens_to_recv(), H)
            outputs = answer[0]  # the view that dispatch gave goes straight into combine
            if not external:
                op.get_registered_combine_input_buffer(dtype)[: answer[4][0]] = outputs[: answer[4][0]]
            out, sums = op.combine(outputs, answer[1], ids, call_reset=False)
            tokens = len(rows)
            assert torch.allclose(out[:tokens].float(), rows.float() * problem.distinct(group.rank), atol=1e-2, rtol=1e-2)
            assert torch.allclose(sums[:tokens], weights * problem.distinct(group.rank), atol=1e-5)
        pairs = torch.cat(problem.ids).flatten()
        first = group.rank * E
        assert op.local_expert_count.tolist() == [(pairs == e).sum().item() for e in range(first, first + E)]
        return True

    assert all(on_ranks(crossdock_ranks, job))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz])
@pytest.mark.parametrize(
    "quant, tolerance",
    [("none", 1e-2), ("fp8_direct_cast", 1e-1), ("fp8_blockwise", 7e-2), (mori.ops.EpDispatchCombineQuantType.Fp8BlockwiseQuant, 7e-2)],
)
def test_another_type_comes_back(dtype, quant, tolerance, crossdock_ranks):
    problem = Problem(dtype)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group, quant_type=quant))
        for _ in range(2):
            rows, weights, _, ids = problem.of(group.rank)
            received = op.dispatch(rows, weights, None, ids)
            out, sums = op.combine(received[0].to(torch.bfloat16), None, ids)
            assert out.dtype == torch.bfloat16 and sums is None
            assert torch.allclose(out[: len(rows)].float(), rows.float() * problem.distinct(group.rank), atol=tolerance, rtol=tolerance)
        return True

    assert all(on_ranks(crossdock_ranks, job))


@pytest.mark.parametrize("budget", [0, W * M, W * 8])
def test_a_receive_budget_at_capacity(budget, crossdock_ranks):
    problem = Problem()

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group, max_total_recv_tokens=budget))
        rows, weights, _, ids = problem.of(group.rank)
        check_dispatch(op, problem, op.dispatch(rows, weights, None, ids))
        return op.max_num_tokens_to_recv()

    assert on_ranks(crossdock_ranks, job) == [W * M] * W


def test_a_receive_budget_that_is_too_small_raises_instead_of_dropping(crossdock_ranks):
    problem = Problem(sentinels=False)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group, max_total_recv_tokens=W))
        rows, weights, _, ids = problem.of(group.rank)
        received = op.dispatch(rows, weights, None, ids)
        with pytest.raises(crossdock.CapacityError, match="row_capacity = 4"):
            op.combine(received[0], None, ids)
        return True

    assert all(on_ranks(crossdock_ranks, job))


def test_routing_handles_replay_the_payload(crossdock_ranks):
    problem = Problem()

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group))
        rows, weights, _, ids = problem.of(group.rank)
        *first, handle = op.dispatch(rows, weights, None, ids, return_routing=True)
        kept = first[0][: first[4][0]].clone()
        op.combine(first[0], None, ids)
        again = op.dispatch(rows * 2, None, None, None, routing=handle)
        assert torch.equal(again[0][: len(kept)], kept * 2) and handle.total_recv_token_num[0] == len(kept)
        out, _ = op.combine(again[0], None, ids, routing=handle)
        assert torch.equal(out[: len(rows)].float(), (rows * 2).float() * problem.distinct(group.rank))
        with pytest.raises(ValueError, match="exclude"):
            op.dispatch(rows, None, None, ids, routing=handle, return_routing=True)
        with pytest.raises(ValueError, match="the routing is of"):
            op.dispatch(torch.cat([rows, rows, rows[:1], torch.ones(1, H)]).bfloat16(), None, None, None, routing=handle)
        return True

    assert all(on_ranks(crossdock_ranks, job))


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_buffer_of_ids_may_be_used_again_between_dispatch_and_combine(confirmed, crossdock_ranks):
    """The first combine of a type routes once more, from ids that the caller has overwritten by then."""
    problem = Problem(torch.float8_e4m3fn)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group))
        rows, weights, _, ids = problem.of(group.rank)
        if confirmed:
            received = op.dispatch(rows, weights, None, ids)
            op.combine(received[0].bfloat16(), None, ids)
        reused, reused_weights = ids.clone(), weights.clone()
        received = op.dispatch(rows, reused_weights, None, reused)
        reused.zero_()
        reused_weights.zero_()
        if confirmed and len(ids):
            with pytest.raises(crossdock.StateError, match="overwritten meanwhile"):
                op.combine(received[0].float(), None, reused)
            return True
        if confirmed:
            return True
        out, sums = op.combine(received[0].float(), received[1], reused)
        assert torch.equal(out[: len(rows)], rows.float() * problem.distinct(group.rank))
        return torch.allclose(sums[: len(rows)], weights * problem.distinct(group.rank), atol=1e-5)

    assert all(on_ranks(crossdock_ranks, job))


@pytest.mark.parametrize("came_back", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("external", [True, False])
def test_a_routing_handle_serves_every_type_that_comes_back(came_back, external, crossdock_ranks):
    problem = Problem(torch.float8_e4m3fn)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group, use_external_inp_buf=external))
        rows, weights, _, ids = problem.of(group.rank)
        reused = ids.clone()
        *first, handle = op.dispatch(rows, weights, None, reused, return_routing=True)
        reused.zero_()
        for _ in range(3):
            outputs = first[0].to(came_back)
            if not external:
                op.get_registered_combine_input_buffer(came_back)[: first[4][0]] = outputs[: first[4][0]]
            out, _ = op.combine(outputs, None, ids, routing=handle)
            assert torch.equal(out[: len(rows)].float(), (rows.float() * problem.distinct(group.rank)).to(came_back).float())
            assert handle.total_recv_token_num[0] == len(
                handle.disp_tok_id_to_src_tok_id_local[handle.disp_tok_id_to_src_tok_id_local >= 0]
            )
            first = op.dispatch(rows, None, None, None, routing=handle)
        return True

    assert all(on_ranks(crossdock_ranks, job))


def test_a_replay_may_be_combined_without_the_handle(crossdock_ranks):
    problem = Problem()

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group))
        rows, weights, _, ids = problem.of(group.rank)
        *first, handle = op.dispatch(rows, weights, None, ids, return_routing=True)
        op.combine(first[0], None, ids)
        again = op.dispatch(rows * 2, None, None, None, routing=handle)
        with pytest.raises(ValueError, match="this rank's own"):
            op.combine(again[0], None, torch.zeros(M + 1, K, dtype=torch.int32))
        out, _ = op.combine(again[0], None, ids)
        return torch.equal(out[: len(rows)].float(), (rows * 2).float() * problem.distinct(group.rank))

    assert all(on_ranks(crossdock_ranks, job))


def test_rows_by_expert(crossdock_ranks):
    problem = Problem()

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group))
        rows, weights, _, ids = problem.of(group.rank)
        packed, counts, sources, layout = op.dispatch_standard_moe(rows, weights, None, ids)
        assert packed.shape == (E, W * M, H) and layout.shape == (0,) and sources.shape == (E, W * M)
        for expert in range(E):
            for n in range(counts[expert]):
                source, token = op.decode_send_flat_idx(sources[expert, n])
                assert torch.equal(packed[expert, n], problem.rows[source][token])
        with pytest.raises(NotImplementedError, match="other weights"):
            op.combine_standard_moe(packed, weights.new_ones(len(weights) + 1, K), ids)
        out, none = op.combine_standard_moe(packed, weights.clone(), ids)
        wanted = rows.float() * (weights * (ids >= 0)).sum(1, keepdim=True)
        return none is None and torch.allclose(out[: len(rows)].float(), wanted, atol=1e-1, rtol=2e-2)

    assert all(on_ranks(crossdock_ranks, job))


def test_send_and_receive_halves_and_dispatch_without_combine(crossdock_ranks):
    problem = Problem()

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group, kernel_type=KERNELS.AsyncLL))
        rows, weights, _, ids = problem.of(group.rank)
        for _ in range(3):
            received = op.dispatch_send(rows, weights, None, ids)
            op.dispatch_recv(call_local_expert_count=True)
            check_dispatch(op, problem, received)
        out, _ = op.combine_send(received[0], None, ids)
        op.combine_recv()
        op.reset()
        assert received[4][0] == len(op.get_dispatch_src_token_pos())  # the count stays after combine
        return torch.equal(out[: len(rows)].float(), rows.float() * problem.distinct(group.rank))

    assert all(on_ranks(crossdock_ranks, job))


def test_what_cannot_be_done_raises_with_the_reason(crossdock_ranks):
    problem = Problem()

    def job(group):
        config = config_of(group)
        for members, words in ((dict(kernel_type=KERNELS.InterNodeV1), "spans hosts"), (dict(quant_type="fp4_blockwise"), "fp8_blockwise")):
            with pytest.raises(NotImplementedError, match=words):
                mori.ops.EpDispatchCombineOp(config_of(group, **members))
        with pytest.raises(crossdock.ConfigError, match="the config says rank 9"):
            mori.ops.EpDispatchCombineOp(config_of(group, rank=9))
        op = mori.ops.EpDispatchCombineOp(config)
        rows, weights, _, ids = problem.of(group.rank)
        received = op.dispatch(rows, weights, None, ids)
        with pytest.raises(ValueError, match="this rank's own"):
            op.combine(received[0], None, received[3])
        with pytest.raises(NotImplementedError, match="use_external_inp_buf=False"):
            op.combine(received[0], None, ids, use_external_inp_buf=0)
        for name in ("_handle", "_cached_dispatch_launch", "_cached_combine_launch", "get_debug_time_offset", "no_such_name"):
            with pytest.raises(AttributeError, match=name):
                getattr(op, name)
        for call in (
            mori.ops.EpDispatchRoutingHandle.from_tensors,
            op.convert_dispatch_output,
            op.convert_combine_input,
            op.get_debug_time_buf,
            mori.ops.launch_local_expert_count,
            lambda: mori.shmem.shmem_malloc(1),
        ):
            with pytest.raises(NotImplementedError):
                call()
        return True

    assert all(on_ranks(crossdock_ranks, job))


def test_shmem_calls(crossdock_ranks):
    def job(group):
        seen = mori.shmem.shmem_mype(), mori.shmem.shmem_npes(), mori.shmem.shmem_barrier_all()
        assert mori.shmem.shmem_finalize() == 0
        with pytest.raises(crossdock.StateError, match="not initialised"):
            mori.shmem.shmem_mype()
        return seen

    assert on_ranks(crossdock_ranks, job) == [(r, W, 0) for r in range(W)]
    assert len(mori.shmem.shmem_get_unique_id()) == 128


def test_a_group_that_nobody_registered_is_not_the_world():
    with pytest.raises(crossdock.UsageError, match="registered as 'no_such_group'"):
        mori.shmem.shmem_torch_process_group_init("no_such_group")


def test_values_travel_and_keep_moris_numbers():
    assert [k.value for k in (KERNELS.IntraNode, KERNELS.InterNodeV1LL, KERNELS.AsyncLL, KERNELS.IntraNodeLL)] == [0, 3, 4, 5]
    assert pickle.loads(pickle.dumps(KERNELS.AsyncLL)) is KERNELS.AsyncLL
    assert mori.ops.dispatch_combine is mori.ops and mori.ops.warmup_jit_kernels(KERNELS.IntraNode) is None
    config = mori.ops.EpDispatchCombineConfig(torch.bfloat16, 0, 8, 7168, 0, 0, 4, 128, 32, 8)
    assert (config.warp_num_per_block, config.block_num, config.gpu_per_node, config.quant_type) == (8, 80, 8, "none")
    assert copy.deepcopy(config) == config


@pytest.mark.parametrize(
    "read, words",
    [
        (lambda: mori.cpp, "C\\+\\+ module"),
        (lambda: mori.cco, "version 2"),
        (lambda: mori.ops.dispatch_combine_v2, "version 1"),
        (lambda: mori.ops.no_such, "does not have it"),
        (lambda: mori.no_such, "serves mori.ops"),
    ],
)
def test_what_is_absent_says_why(read, words):
    with pytest.raises(AttributeError, match=words):
        read()


def test_numbers_of_the_config_and_of_a_call_are_taken(crossdock_ranks):
    problem = Problem()

    def job(group):
        asked = []
        for members, numbers in (
            (dict(block_num=80, warp_num_per_block=8), {}),
            (dict(block_num=64, warp_num_per_block=4), {}),
            ({}, dict(block_num=3, warp_per_block=2)),
        ):
            op = mori.ops.EpDispatchCombineOp(config_of(group, **members))
            asked.append(op.get_launch_config(**numbers))
            rows, weights, _, ids = problem.of(group.rank)
            received = op.dispatch(rows, weights, None, ids, **numbers)
            op.combine(received[0], None, ids, **numbers)
            assert op.get_launch_config(True) == op.get_launch_config(False) == (1, 0, 1)  # the CPU has one block of one warp
            decided = {"rule"} if members.get("block_num") == 80 else {"call"}
            assert {launch.tuned_by for launch in op._last_launches.values()} == decided
        return asked

    assert on_ranks(crossdock_ranks, job) == [[(0, 0, 0), (64, 0, 4), (3, 0, 2)]] * W


def test_scales_without_a_place_for_them_and_many_handles(crossdock_ranks):
    problem = Problem(scale_dim=4)

    def job(group):
        op = mori.ops.EpDispatchCombineOp(config_of(group))  # scale_dim = 0
        rows, weights, scales, ids = problem.of(group.rank)
        handles = []
        for _ in range(8):
            *received, handle = op.dispatch(rows, weights, scales, ids, return_routing=True)
            assert received[2] is None
            op.combine(received[0], None, ids)
            handles.append(handle)
        return len(handles)

    assert on_ranks(crossdock_ranks, job) == [8] * W


def test_a_barrier_on_a_stream(crossdock_ranks):
    def job(group):
        stream = crossdock.CpuStream()
        for _ in range(2):
            mori.shmem.shmem_barrier_on_stream(stream)
        stream.synchronize()
        return mori.shmem.shmem_barrier_all()

    assert on_ranks(crossdock_ranks, job) == [0] * W


def test_a_program_and_the_workers_it_spawns_find_mori(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""import multiprocessing, sys
def work(queue):
    import mori, mori.ops.dispatch_combine
    queue.put((mori.__name__, mori.ops.EpDispatchCombineKernelType.AsyncLL))
if __name__ == "__main__":
    import mori
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=work, args=(queue,))
    worker.start()
    print(*queue.get(timeout=60), mori.ops.EpDispatchCombineKernelType(4).name, sys.argv[1:])
    worker.join()
""")
    done = subprocess.run([sys.executable, "-m", "crossdock.compat.mori", str(program), "one"], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "crossdock.compat.mori 4 AsyncLL ['one']", done.stdout + done.stderr


def test_a_program_that_imports_mori_finds_it():
    program = (
        "import crossdock.compat.mori as m; m.install(); import mori; from mori.ops import EpDispatchCombineOp; "
        "from mori.shmem import shmem_torch_process_group_init; import mori.ops.dispatch_combine as d; "
        "print(d.EpDispatchCombineQuantType(2).name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "Fp8BlockwiseQuant", done.stderr


def test_the_bench_runs_any_module_of_the_interface():
    arguments = "--against crossdock.compat.mori --ranks 2 --tokens 3 --hidden 256 --experts-per-rank 4 --repeats 2 --json".split()
    done = subprocess.run([sys.executable, "-m", "crossdock.bench", *arguments], capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0 and len(lines) == 3, done.stdout + done.stderr
    assert all(line[side]["right"] and line[side]["dispatch_us"] > 0 for line in lines for side in ("ours", "theirs"))
