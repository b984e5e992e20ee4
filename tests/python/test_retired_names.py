# SPDX-License-Identifier: Apache-2.0
"""Names of before 0.1: each is refused with an error that has the new one. The lists here are those of
include/crossdock/retired_names.h, written again by hand."""

import importlib
import os
import re
import subprocess
import sys

import pytest
import torch

import crossdock

CONFIG = crossdock.Config(hidden=64, num_experts=4, top_k=2, max_tokens_per_rank=3, combine_topk_weights=True)
X, TOPK_IDS = torch.ones(3, 64, dtype=torch.bfloat16), torch.zeros(3, 2, dtype=torch.int32)

RETIRED_MEMBERS = {
    "max_tokens": "max_tokens_per_rank",
    "combine_wire": "combine_quant",
    "combine_weights": "combine_topk_weights",
    "in_flight": "max_in_flight",
    "kept_plans": "max_kept_plans",
    "pieces": "splits_per_row",
}


@pytest.mark.parametrize("old, new", RETIRED_MEMBERS.items())
def test_a_member_by_its_old_name_is_refused_with_the_new_one(old, new):
    value = CONFIG.as_dict()[new]
    others = {name: value for name, value in CONFIG.as_dict().items() if name != new}
    for call in (lambda: CONFIG.replace(**{old: value}), lambda: crossdock.Config(**others, **{old: value})):
        with pytest.raises(crossdock.UsageError, match=f"Config: `{old}` is called `{new}` now"):
            call()
    with pytest.raises(AttributeError, match=f"Config.{old} is {new} now"):
        getattr(CONFIG, old)


@pytest.mark.parametrize("old, new", [("own", "none"), ("fp8_block128", "fp8_blockwise")])
def test_a_cast_of_combine_by_its_old_name_is_refused_with_the_new_one(old, new):
    with pytest.raises(crossdock.UsageError, match=f"combine_quant = '{old}' is called '{new}' now"):
        CONFIG.replace(combine_quant=old)


RETIRED_OF_MODULES = {
    ("crossdock", "Bill"): "crossdock.MemoryUsage",
    ("crossdock", "Team"): "crossdock.ThreadTeam",
    ("crossdock", "WIRES"): "crossdock.COMBINE_QUANTS",
    ("crossdock", "beside"): "crossdock.bench_overlap",
    **{("crossdock", name): f"Config.{name}" for name in ("supports", "memory", "fit", "union", "received_shape", "token_capacity")},
    ("crossdock.torch", "Sent"): "crossdock.torch.DispatchOutput",
}


@pytest.mark.parametrize("module, old", RETIRED_OF_MODULES)
def test_a_name_that_a_module_had_is_refused_with_what_serves_now(module, old):
    importlib.import_module("crossdock.bench_overlap")
    found, new = importlib.import_module(module), RETIRED_OF_MODULES[module, old]
    with pytest.raises(AttributeError, match=f"{module}.{old} is {new} now"):
        getattr(found, old)
    assert eval(new, {"crossdock": crossdock, "Config": crossdock.Config})
    with pytest.raises(AttributeError, match=f"{module} has no attribute `nobody`"):
        found.nobody  # noqa: B018


def test_a_variable_by_its_old_name_is_refused_with_the_new_one():
    program = "import crossdock; crossdock.Group.threads(1, backend='cpu')"

    def run(environment):
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)

    done = run({**os.environ, "CROSSDOCK_SHARE": "vmm"})
    assert done.returncode == 1 and re.search(r"ConfigError: .*CROSSDOCK_SHARE.* is called CROSSDOCK_IPC now", done.stderr), done.stderr
    assert run(os.environ).returncode == 0


RETIRED_ARGUMENTS = [
    ("dispatch", "rows", "x"),
    ("dispatch", "ids", "topk_ids"),
    ("dispatch", "weights", "topk_weights"),
    ("dispatch", "pieces", "splits_per_row"),
    ("combine", "weights", "topk_weights"),
    ("combine", "with_weights", "combine_topk_weights"),
    ("combine", "out_weights", "out_topk_weights"),
    ("combine", "pieces", "splits_per_row"),
    ("combine_fused", "with_weights", "combine_topk_weights"),
    ("combine_fused", "out_weights", "out_topk_weights"),
    ("combine_fused", "pieces", "splits_per_row"),
]


def test_an_argument_by_its_old_name_is_refused_with_the_new_one():
    def job(group):
        exchange = group.exchange(CONFIG)
        received = exchange.dispatch(X, TOPK_IDS)
        routing = {"dispatch": (), "combine": (received, X), "combine_fused": (received,)}
        for call, old, new in RETIRED_ARGUMENTS:
            with pytest.raises(crossdock.UsageError, match=f"{call}: the argument `{old}` is called `{new}` now"):
                getattr(exchange, call)(*routing[call], **{old: None})
        for call in routing:  # a name that never was, and one that only another call had
            for name in ("idz", "rows" if call == "combine_fused" else "quant"):
                with pytest.raises(TypeError, match=f"{call}.* has no argument `{name}`"):
                    getattr(exchange, call)(*routing[call], **{name: None})
        return torch.equal(exchange.combine(received, received.rows), X)

    assert crossdock.run_ranks(1, job, backend="cpu")[0]


def test_an_attribute_by_its_old_name_is_refused_with_the_new_one():
    def job(group):
        exchange = group.exchange(CONFIG)
        received = exchange.dispatch(X, TOPK_IDS)
        renamed = {"ids": "topk_ids", "token_weights": "topk_weights", "keep": "retain_plan", "landing_rows": "combine_slots"}
        for old, new in renamed.items():
            assert hasattr(type(received), new)
            with pytest.raises(AttributeError, match=f"Received.{old} is Received.{new} now"):
                getattr(received, old)
        with pytest.raises(AttributeError, match="Received has no attribute `idz`"):
            received.idz  # noqa: B018
        return True

    assert crossdock.run_ranks(1, job, backend="cpu")[0]
