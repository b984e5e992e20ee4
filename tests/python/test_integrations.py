# SPDX-License-Identifier: Apache-2.0
"""The adapters of integrations/, against stubs of the engines' interfaces, on the CPU backend."""

import enum
import importlib.util
import pathlib
import sys
import threading
import types
from typing import NamedTuple

import pytest
import torch

import crossdock

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "integrations"
RANKS, EXPERTS, TOP_K, HIDDEN, TOKENS = 3, 7, 2, 256, 5
FACTORS = torch.arange(1.0, EXPERTS + 1)


def stub(monkeypatch, name, **members):
    """A module of an engine, and the packages around it."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        package = ".".join(parts[:i])
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        if i > 1:
            setattr(sys.modules[".".join(parts[: i - 1])], parts[i - 1], sys.modules[package])
    vars(sys.modules[name]).update(members)


def load(name, monkeypatch):
    monkeypatch.setattr(crossdock.Group, "from_torch", staticmethod(lambda group, **_: group))  # tests pass Crossdock groups
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("adapter", ["vllm_prepare_finalize", "sglang_dispatcher"])
def test_an_adapter_has_at_most_150_lines(adapter):
    assert len((FOLDER / f"{adapter}.py").read_text().splitlines()) <= 150


def inputs_of(rank):
    draw = torch.Generator().manual_seed(rank)
    tokens = (TOKENS, 0, 3)[rank]
    x = torch.randint(-8, 9, (tokens, HIDDEN), generator=draw).bfloat16()
    ids = torch.rand(tokens, EXPERTS, generator=draw).argsort(1)[:, :TOP_K].contiguous()
    ids[::3, 1] = -1
    return x, torch.rand(tokens, TOP_K, generator=draw), ids


def dense(x, weights, ids):
    return x.float() * (weights * (ids >= 0) * FACTORS[ids.clamp(min=0)]).sum(1, keepdim=True)


def quantise_per_128(rows, group_size=128):
    groups = rows.float().unflatten(-1, (rows.shape[1] // group_size, group_size))
    scales = groups.abs().amax(-1).clamp(min=1e-6) / 448
    return (groups / scales.unsqueeze(-1)).reshape(rows.shape).to(torch.float8_e4m3fn), scales


def widened(rows, scales):
    """Rows in bf16, whatever came over the wire."""
    if scales is None:
        return rows
    return (rows.float().unflatten(-1, (-1, 128)) * scales.unsqueeze(-1)).flatten(-2).bfloat16()


# ---- vLLM ----------------------------------------------------------------------------------------------------------------


class Format(enum.Enum):
    Standard = "standard"
    BatchedExperts = "batched"


class Metadata(NamedTuple):
    expert_num_tokens: torch.Tensor
    expert_num_tokens_cpu: object


class Manager:
    def __init__(self, cpu_group, tcp_store_group=None):
        self.cpu_group = cpu_group


class Quant(NamedTuple):
    quant_dtype: object = None
    a1_scale: object = None
    per_act_token_quant: bool = False
    block_shape: object = None


class WeightAndReduce:
    """As vLLM's: [rows, top_k, hidden] -> [rows, hidden]."""

    def __init__(self, dtype=torch.bfloat16):
        self.dtype = dtype

    def apply(self, output, fused_expert_output, topk_weights, topk_ids, apply_router_weight_on_input):
        weights = torch.ones_like(topk_weights) if apply_router_weight_on_input else topk_weights
        return (fused_expert_output.float() * weights.unsqueeze(-1)).sum(1).to(self.dtype)


UBATCH = threading.local()


@pytest.fixture
def vllm(monkeypatch):
    stub(
        monkeypatch,
        "vllm.model_executor.layers.fused_moe.modular_kernel",
        FusedMoEPrepareAndFinalize=object,
        FusedMoEActivationFormat=Format,
        ExpertTokensMetadata=Metadata,
    )
    stub(monkeypatch, "vllm.distributed.device_communicators.base_device_communicator", All2AllManagerBase=Manager)
    stub(
        monkeypatch,
        "vllm.model_executor.layers.fused_moe.utils",
        moe_kernel_quantize_input=lambda rows, scale, dtype, per_token, block: quantise_per_128(rows),
    )
    stub(monkeypatch, "vllm.v1.worker.ubatching", dbo_current_ubatch_id=lambda: getattr(UBATCH, "id", 0))
    return load("vllm_prepare_finalize", monkeypatch)


def vllm_experts(rows, scales, meta, ids, first, apply_weights):
    """What vLLM's expert kernels answer: batched [experts, rows, hidden], or [rows, top_k, hidden] with zeros for other ranks' experts."""
    rows = widened(rows, scales)
    if ids is None:
        return rows * FACTORS[first : first + rows.shape[0]].reshape(-1, 1, 1).bfloat16()
    here = (ids >= first) & (ids < first + len(meta.expert_num_tokens))
    factors = FACTORS[ids.long()] * here
    return (rows.float().nan_to_num().unsqueeze(1) * factors.unsqueeze(-1)).bfloat16()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vllm_prepare_and_finalize(vllm, batched, quantised, dtype, crossdock_ranks):
    def job(group):
        manager = vllm.CrossdockAll2AllManager(group)
        arguments = vllm.handle_arguments(
            max_tokens_per_rank=TOKENS, hidden=HIDDEN, top_k=TOP_K, num_experts=EXPERTS, batched=batched, quantised=quantised, dtype=dtype
        )
        exchange = manager.get_handle(arguments)
        assert manager.get_handle(dict(arguments)) is exchange and manager.max_sms_used() is None
        layer = vllm.CrossdockPrepareAndFinalize(exchange, batched, manager)
        assert layer.activation_format is (Format.BatchedExperts if batched else Format.Standard)
        assert (layer.max_num_tokens_per_rank(), layer.num_dispatchers(), layer.output_is_reduced()) == (TOKENS, RANKS, True)
        x, weights, ids = inputs_of(group.rank)
        x, missing = x.to(dtype), []
        for batch in (0, 1):  # both micro-batches in flight
            UBATCH.id = batch
            prepared = layer.prepare(x, weights, ids, EXPERTS, None, False, Quant(torch.float8_e4m3fn if quantised else None))
            first = layer._received[batch].first_expert
            missing.append(layer._received[batch].topk_ids < 0)
            if batch == 0:
                kept = prepared
        for batch, (rows, scales, meta, row_ids, row_weights) in ((1, prepared), (0, kept)):
            UBATCH.id = batch
            if not batched:  # no -1 is left; what was -1 has no weight and names another rank's expert
                assert missing[batch].any() and (row_ids >= 0).all() and (row_weights[missing[batch]] == 0).all()
                local = (row_ids >= first) & (row_ids < first + len(meta.expert_num_tokens))
                assert not (local & missing[batch]).any() and (row_weights[~missing[batch]] != 0).all()
            outputs, output = vllm_experts(rows, scales, meta, row_ids, first, False).to(dtype), torch.empty_like(x)
            layer.finalize(output, outputs, weights, ids, False, WeightAndReduce(dtype))
            tolerance = 0.15 if quantised else 0.05
            assert torch.allclose(output.float(), dense(x, weights, ids), rtol=tolerance, atol=tolerance * 4), batch
        manager.destroy()
        return True

    assert all(crossdock_ranks(RANKS)(job))


def test_vllm_weights_on_the_input_need_one_expert_a_token(vllm, crossdock_ranks):
    def job(group):
        manager = vllm.CrossdockAll2AllManager(group)
        layer = vllm.CrossdockPrepareAndFinalize(
            manager.get_handle(
                vllm.handle_arguments(max_tokens_per_rank=TOKENS, hidden=HIDDEN, top_k=TOP_K, num_experts=EXPERTS, batched=False)
            ),
            False,
        )
        with pytest.raises(crossdock.UsageError, match="top_k = 2"):
            layer.prepare(*inputs_of(0), EXPERTS, None, True, Quant())
        return True

    assert all(crossdock_ranks(1)(job))


# ---- SGLang --------------------------------------------------------------------------------------------------------------


class DispatchOutput(NamedTuple):
    hidden_states: torch.Tensor
    hidden_states_scale: object
    topk_ids: torch.Tensor
    topk_weights: torch.Tensor
    masked_m: torch.Tensor
    expected_m: int


class TopK(NamedTuple):
    topk_weights: torch.Tensor
    topk_ids: torch.Tensor


@pytest.fixture
def sglang(monkeypatch):
    stub(monkeypatch, "sglang.srt.layers.moe.token_dispatcher.base", BaseDispatcher=object)
    stub(monkeypatch, "sglang.srt.layers.moe.token_dispatcher.deepep", DeepEPLLDispatchOutput=DispatchOutput)
    return load("sglang_dispatcher", monkeypatch)


@pytest.mark.parametrize("quantised", [False, True])
def test_sglang_dispatchers_of_two_halves(sglang, quantised, crossdock_ranks):
    def job(group):
        x, weights, ids = inputs_of(group.rank)
        halves = [
            sglang.CrossdockDispatcher(
                group,
                TOP_K,
                num_experts=EXPERTS,
                hidden_size=HIDDEN,
                params_dtype=torch.bfloat16,
                max_tokens_per_rank=TOKENS,
                quantise=quantise_per_128 if quantised else None,
            )
            for _ in range(2)
        ]
        for half in halves:
            half.set_quant_config({"weight_dtype": torch.bfloat16})
            half.dispatch_a(x, TopK(weights, ids))
        with pytest.raises(crossdock.StateError, match="waits for dispatch_b"):
            halves[0].dispatch_a(x, TopK(weights, ids))
        for half in halves:
            sent = half.dispatch_b()
            assert sent.hidden_states.shape == half._exchange().config.received_shape(RANKS, group.rank)
            assert sent.masked_m.dtype == torch.int32 and sent.expected_m == -(-TOKENS * RANKS * TOP_K // EXPERTS)
            first = group.rank * -(-EXPERTS // RANKS)
            rows = widened(sent.hidden_states, sent.hidden_states_scale)
            half.combine_a(types.SimpleNamespace(hidden_states=rows * FACTORS[first : first + len(rows)].reshape(-1, 1, 1).bfloat16()))
            tolerance = 0.15 if quantised else 0.05
            assert torch.allclose(half.combine_b().float(), dense(x, weights, ids), rtol=tolerance, atol=tolerance * 4)
        for call in (halves[0].dispatch_b, halves[0].combine_b, lambda: halves[0].combine_a(None)):
            with pytest.raises(crossdock.StateError):
                call()
        return True

    assert all(crossdock_ranks(RANKS)(job))


def test_sglangs_modes_and_groups(sglang, crossdock_ranks):
    def dispatcher(group, mode):
        return sglang.CrossdockDispatcher(
            group, TOP_K, num_experts=EXPERTS, hidden_size=HIDDEN, params_dtype=torch.bfloat16, deepep_mode=mode
        )

    def job(group):
        for mode in ("normal", types.SimpleNamespace(value="normal")):
            with pytest.raises(crossdock.UsageError, match="deepep_mode"):
                dispatcher(group, mode)
        joined = dispatcher(group, types.SimpleNamespace(value="low_latency")).group
        assert dispatcher(group, None).group is joined and not joined.closed
        sglang.close_groups()
        return joined.closed and not sglang._groups

    assert crossdock_ranks(1)(job) == [True]
