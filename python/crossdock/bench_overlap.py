# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.bench_overlap: how much dispatch and combine slow a matrix product that runs beside them, and it them, by num_sms.

Each rank is a process, as in crossdock.bench, with a stream of high priority for calls and one for products; without GPUs these are threads
on the CPU, which says nothing about GPUs. While one is timed the other runs all the time. No time is printed whose result is wrong."""

import json
import statistics
import sys
from typing import NamedTuple

import torch

import crossdock
from crossdock._runners import StreamRunner, ThreadRunner, gathered
from crossdock.bench import distinct_ranks, on_ranks, parser_of, random_ids

SHAPE = "ranks", "tokens", "hidden", "top_k", "experts", "matrix"


class Case(NamedTuple):
    op: str
    num_sms: int


class Products:
    """What runs beside calls: products of bf16 matrices, one after another."""

    def __init__(self, runner, arguments, device):
        self.runner, self.device, self.seconds, self.crowd = runner, device, arguments.seconds, arguments.crowd
        self.left, self.right = torch.randn(2, arguments.matrix, arguments.matrix, device=device).bfloat16()
        self.product = torch.empty_like(self.left)
        self.leave(0)
        self.alone_s = runner.alone(self.seconds)

    def leave(self, num_sms):
        """From now on a product leaves so many SMs to others. Where one takes all of them a call waits for the product's end."""
        if self.device.type == "cuda" and not self.crowd:
            torch.backends.cuda.preferred_blas_library("cublaslt")  # the one that can leave SMs
            torch._C._set_sm_carveout_experimental(num_sms or None)
        self.runner.load(lambda: torch.matmul(self.left, self.right, out=self.product), self.seconds)


class Calls:
    """What a rank sends, and what is timed: dispatch, or combine along a kept plan."""

    def __init__(self, group, arguments, device):
        self.exchange = group.exchange(
            crossdock.Config(
                hidden=arguments.hidden, num_experts=arguments.experts, top_k=arguments.top_k, max_tokens_per_rank=arguments.tokens
            )
        )
        draw = torch.Generator().manual_seed(1000 + group.rank)
        self.x = torch.randn(arguments.tokens, arguments.hidden, generator=draw).bfloat16().to(device)
        self.topk_ids = random_ids(arguments.tokens, arguments.experts, arguments.top_k, draw).to(device)
        self.distinct = distinct_ranks(self.topk_ids, -(-arguments.experts // group.num_ranks)).to(device)
        self.dispatch(0)
        self.plan, self.outputs, self.out = self.received.retain_plan(), self.received.rows.clone(), torch.empty_like(self.x)

    def dispatch(self, num_sms):
        self.received = None  # one may be in flight
        self.received = self.exchange.dispatch(self.x, self.topk_ids, num_sms=num_sms)

    def combine(self, num_sms):
        self.exchange.combine(self.plan, self.outputs, out=self.out, num_sms=num_sms)

    def are_right(self, op):
        """Whether the newest call brought each token once to, or from, every distinct rank, on all ranks. The next call has other rows,
        so that it is not judged by what an earlier one left."""
        if op == "dispatch":
            self.exchange.combine(self.plan, self.received.rows, out=self.out)
        right = torch.equal(self.out, (self.x * self.distinct).bfloat16()) and self.exchange.poll().code == "ok"
        self.x.neg_(), self.outputs.neg_()
        return all(gathered(right))


def measure(case, calls, runner, products, arguments):
    """The line of a case, alike on every rank."""
    seconds, line = arguments.seconds, {key: getattr(arguments, key) for key in SHAPE} | case._asdict()
    products.leave(case.num_sms)
    runner.load(lambda: getattr(calls, case.op)(case.num_sms), seconds)
    line["num_blocks"] = calls.exchange.last_launch.num_blocks
    if not calls.are_right(case.op):
        return line | {"error": "wrong result"}
    alone = runner.alone(seconds), products.alone_s
    beside = runner.beside(products.runner, seconds), products.runner.beside(runner, seconds)
    if not calls.are_right(case.op):
        return line | {"error": "wrong result"}
    if not all(beside):
        return line | {"error": "what ran beside always ended too soon"}
    for suffix, (call, product) in (("", alone), ("_beside", beside)):
        line["us" + suffix] = max(call) * 1e6
        line["tflops" + suffix] = statistics.mean(2e-12 * arguments.matrix**3 / one for one in product)
    return line


def job(rank, device, arguments):
    """The lines of all cases."""
    on_cpu = device.type == "cpu"
    runner, beside = (ThreadRunner(), ThreadRunner()) if on_cpu else (StreamRunner(priority=-1), StreamRunner())
    with crossdock.Group.from_torch(backend="cpu" if on_cpu else "automatic") as group:
        calls = Calls(group, arguments, device)
        products = Products(beside, arguments, device)
        return [measure(Case(op, n), calls, runner, products, arguments) for op in arguments.op for n in arguments.num_sms]


def parse(arguments):
    parser = parser_of("bench_overlap", __doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--op", nargs="+", choices=["dispatch", "combine"], default=["dispatch", "combine"])
    parser.add_argument(
        "--num-sms", type=int, nargs="+", default=[0, 8, 16, 32], help="most thread blocks of a call; 0: the library's choice"
    )
    parser.add_argument(
        "--matrix", type=int, default=8192 if torch.cuda.is_available() else 512, help="rows and columns of the bf16 product"
    )
    parser.add_argument("--crowd", action="store_true", help="the product takes all SMs; without, it leaves num_sms of them to calls")
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long each time is taken")
    return parser.parse_args(arguments)


def shown(line):
    if "error" in line:
        return line["error"]
    us, us_beside, tflops, tflops_beside = (line[key] for key in ("us", "us_beside", "tflops", "tflops_beside"))
    return (
        f"{us:10.1f} {us_beside:10.1f} {us_beside / us - 1:+9.1%}   {tflops:10.4g} {tflops_beside:10.4g} {tflops / tflops_beside - 1:+9.1%}"
    )


def main(arguments=None):
    arguments = parse(arguments)
    lines = on_ranks(job, arguments)
    if arguments.json:
        print("\n".join(map(json.dumps, lines)))
    else:
        print(
            "{ranks} ranks, {tokens} tokens each, hidden {hidden}, top-{top_k} of {experts} experts, bf16; "
            "product of {matrix} x {matrix}, bf16\n"
            "us of a call, slowest rank; TFLOP/s of the product, mean of the ranks; alone, beside the other, "
            "and how much longer it takes there\n".format(**vars(arguments))
        )
        print(
            f"{'op':<8} {'num_sms':>7} {'blocks':>6} "
            + "   ".join(f"{unit:>10} {'beside':>10} {'slower':>9}" for unit in ("us", "TFLOP/s"))
        )
        for line in lines:
            print(f"{line['op']:<8} {line['num_sms']:>7} {line['num_blocks']:>6} {shown(line)}")
    return 1 if any("error" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
