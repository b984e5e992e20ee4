# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.bench --against MODULE: the same cases in the same run through crossdock.compat.mori and through any other module
of that interface (`mori` on an AMD host), results and times side by side. No time is printed whose result is wrong.

Each rank is a process; on GPUs rank r takes device r, without any the CPU backend is timed, which says nothing about GPUs."""

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

OURS = "crossdock.compat.mori"


class Case(NamedTuple):
    dispatch_dtype: str
    combine_dtype: str
    hidden: int
    tokens: int
    top_k: int
    experts_per_rank: int
    quant_type: str = "none"

    def __str__(self):
        quant = "" if self.quant_type == "none" else f" {self.quant_type}"
        return (
            f"{self.dispatch_dtype}->{self.combine_dtype}{quant} H={self.hidden} M={self.tokens} k={self.top_k} E={self.experts_per_rank}"
        )


def cases_of(arguments):
    pairs = [("bfloat16", "bfloat16", "none"), ("float8_e4m3fn", "bfloat16", "none"), ("bfloat16", "bfloat16", "fp8_direct_cast")]
    return [
        Case(d, c, arguments.hidden, tokens, arguments.top_k, arguments.experts_per_rank, q)
        for tokens in arguments.tokens
        for d, c, q in pairs
    ]


def random_ids(tokens, experts, top_k, draw):
    """[tokens, top_k] int32: experts at random, none twice for a token."""
    return torch.rand(tokens, experts, generator=draw).argsort(1)[:, :top_k].to(torch.int32).contiguous()


def distinct_ranks(ids, experts_per_rank):
    """[tokens, 1] float32 on the CPU: how many ranks the ids of each token name."""
    owners = (ids // experts_per_rank).cpu()
    return torch.tensor([len(set(row.tolist())) for row in owners], dtype=torch.float32).unsqueeze(1)


class Run:
    """One module's operator on one case."""

    def __init__(self, module, case, rank, num_ranks, device):
        ops = module.ops
        self.case, self.device = case, device
        self.op = ops.EpDispatchCombineOp(
            ops.EpDispatchCombineConfig(
                data_type=getattr(torch, case.combine_dtype),
                rank=rank,
                world_size=num_ranks,
                hidden_dim=case.hidden,
                scale_dim=0,
                scale_type_size=1,
                max_token_type_size=4,
                max_num_inp_token_per_rank=case.tokens,
                num_experts_per_rank=case.experts_per_rank,
                num_experts_per_token=case.top_k,
                gpu_per_node=num_ranks,
                quant_type=case.quant_type,
            )
        )
        draw = torch.Generator().manual_seed(1000 + rank)
        experts = case.experts_per_rank * num_ranks
        self.rows = torch.randn(case.tokens, case.hidden, generator=draw).to(getattr(torch, case.dispatch_dtype)).to(device)
        self.ids = random_ids(case.tokens, experts, case.top_k, draw).to(device)
        self.weights = torch.rand(case.tokens, case.top_k, generator=draw).to(device)

    def dispatch(self):
        self.received = self.op.dispatch(self.rows, self.weights, None, self.ids)

    def step(self):
        self.received[0].view(torch.uint8)  # the expert step is the caller's: here, the rows in combine's type
        self.outputs = self.received[0].to(getattr(torch, self.case.combine_dtype))

    def combine(self):
        self.result = self.op.combine(self.outputs, None, self.ids)[0][: self.case.tokens]

    def is_right(self):
        """Each token came home once per distinct rank that its ids name."""
        wanted = self.rows.to(getattr(torch, self.case.combine_dtype)).float().cpu() * distinct_ranks(self.ids, self.case.experts_per_rank)
        tolerance = 1e-2 if self.case.quant_type == "none" else 1e-1
        return torch.allclose(self.result.float().cpu(), wanted, atol=tolerance, rtol=tolerance)


def seconds_of(call, device):
    if device.type == "cpu":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def measure(module, case, rank, num_ranks, device, repeats):
    """{"right", "dispatch_us", "combine_us"}: medians over repeats of the slowest rank."""
    run = Run(module, case, rank, num_ranks, device)
    times = []
    for _ in range(repeats + 2):
        dist.barrier()
        dispatched = seconds_of(run.dispatch, device)
        run.step()
        times.append((dispatched, seconds_of(run.combine, device)))
    right = torch.tensor([float(run.is_right())])
    slowest = torch.tensor(times[2:], dtype=torch.float64)
    dist.all_reduce(right, op=dist.ReduceOp.MIN)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    medians = [statistics.median(column.tolist()) * 1e6 for column in slowest.T]
    return {"right": bool(right.item())} | ({"dispatch_us": medians[0], "combine_us": medians[1]} if right.item() else {})


def job(rank, device, arguments):
    """The lines of all cases, alike on every rank."""
    torch._C._distributed_c10d._register_process_group("default", dist.group.WORLD)
    modules = {name: importlib.import_module(name) for name in dict.fromkeys([OURS, arguments.against])}
    for name, module in modules.items():
        importlib.import_module(name + ".ops"), importlib.import_module(name + ".shmem")
        module.shmem.shmem_torch_process_group_init("default")
    lines = []
    for case in cases_of(arguments):
        sides = [measure(modules[name], case, rank, arguments.ranks, device, arguments.repeats) for name in (OURS, arguments.against)]
        lines.append({"case": str(case), "ours": sides[0], "theirs": sides[1]})
    for module in modules.values():
        module.shmem.shmem_finalize()
    return lines


def worker(rank, function, arguments, meeting, results):
    device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=arguments.ranks
    )
    lines = function(rank, device, arguments)
    if rank == 0:
        with open(results, "w", encoding="utf-8") as file:
            json.dump(lines, file)
    dist.destroy_process_group()


def on_ranks(function, arguments):
    """What function(rank, device, arguments) gives on rank 0 of arguments.ranks processes, which are torch's default group."""
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "results.json")
        mp.spawn(worker, (function, arguments, os.path.join(folder, "meeting"), results), nprocs=arguments.ranks)
        with open(results, encoding="utf-8") as file:
            return json.load(file)


def shown(side, key):
    return f"{side[key]:10.1f}" if key in side else "     wrong"


def parser_of(module, text):
    """With the options that every such bench has."""
    parser = argparse.ArgumentParser(prog=f"python -m crossdock.{module}", description=text.split("\n")[0])
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--hidden", type=int, default=7168)
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="one line of JSON a case")
    return parser


def parse(arguments):
    parser = parser_of("bench", __doc__)
    parser.add_argument(
        "--against", required=True, metavar="MODULE", help="a module of MORI's interface, e.g. mori, or crossdock.compat.mori"
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 128])
    parser.add_argument("--experts-per-rank", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    return parser.parse_args(arguments)


def main(arguments=None):
    arguments = parse(arguments)
    lines = on_ranks(job, arguments)
    if arguments.json:
        print("\n".join(map(json.dumps, lines)))
    else:
        print(
            f"{'us, median of the slowest rank':<52} {'dispatch':>21} {'combine':>21}\n"
            f"{'':<52} {'ours':>10} {'theirs':>10} {'ours':>10} {'theirs':>10}"
        )
        for line in lines:
            ours, theirs = line["ours"], line["theirs"]
            cells = " ".join(shown(side, key) for key in ("dispatch_us", "combine_us") for side in (ours, theirs))
            print(f"{line['case']:<52} {cells}")
    return 0 if all(line[side]["right"] for line in lines for side in ("ours", "theirs")) else 1


if __name__ == "__main__":
    sys.exit(main())
