# SPDX-License-Identifier: Apache-2.0
"""Crossdock as a backend of vLLM's modular MoE kernel: the manager, and prepare/finalize in both activation formats.

To hook in: choose CrossdockAll2AllManager where vLLM chooses its all-to-all manager, and in maybe_make_prepare_finalize return
CrossdockPrepareAndFinalize(manager.get_handle(handle_arguments(...)), batched=...). tests/python/test_integrations.py runs this file
against stubs of the interface."""

import torch
import vllm.model_executor.layers.fused_moe.modular_kernel as mk
from vllm.distributed.device_communicators.base_device_communicator import All2AllManagerBase
from vllm.model_executor.layers.fused_moe.utils import moe_kernel_quantize_input
from vllm.v1.worker.ubatching import dbo_current_ubatch_id

import crossdock

MICRO_BATCHES = 2


def handle_arguments(*, max_tokens_per_rank, hidden, top_k, num_experts, batched, quantised=False, group_size=128, dtype=torch.bfloat16):
    """What get_handle takes: scalars, alike on every rank. `dtype`: of the model's activations, bfloat16 or float16. `group_size`:
    elements of a row that share a float32 scale."""
    arguments = dict(
        hidden=hidden,
        num_experts=num_experts,
        top_k=top_k,
        max_tokens_per_rank=max_tokens_per_rank,
        max_in_flight=MICRO_BATCHES,
        layout="expert_major" if batched else "token_major",
        dispatch_dtype=dtype,
        combine_dtype=dtype,
    )
    if quantised:
        arguments |= dict(dispatch_dtype="fp8_e4m3", scale_bytes=4 * -(-hidden // group_size))
    return arguments


class CrossdockAll2AllManager(All2AllManagerBase):
    """One group for all layers; layers with equal arguments share an exchange."""

    def __init__(self, cpu_group, tcp_store_group=None):
        super().__init__(cpu_group, tcp_store_group)
        self.group = crossdock.Group.from_torch(cpu_group)
        self.num_sms = 0
        self._exchanges = {}  # held: vLLM keeps handles weakly

    def get_handle(self, kwargs):
        config = crossdock.Config(**kwargs)
        if config not in self._exchanges:
            self._exchanges[config] = self.group.exchange(config)
        return self._exchanges[config]

    def set_num_sms(self, num_sms):
        self.num_sms = num_sms

    def max_sms_used(self):
        return self.num_sms or None

    def destroy(self):
        self._exchanges.clear()
        self.group.close()


class CrossdockPrepareAndFinalize(mk.FusedMoEPrepareAndFinalize):
    """Standard: received rows with global ids. BatchedExperts: [local experts, ranks * max tokens, hidden] with counts."""

    def __init__(self, exchange, batched, manager=None):
        super().__init__()
        self.exchange, self.batched, self.manager = exchange, batched, manager
        self._received = [None] * MICRO_BATCHES

    @property
    def activation_format(self):
        formats = mk.FusedMoEActivationFormat
        return formats.BatchedExperts if self.batched else formats.Standard

    def topk_indices_dtype(self):
        return None  # int32 and int64 are both read

    def max_num_tokens_per_rank(self):
        return self.exchange.config.max_tokens_per_rank

    def num_dispatchers(self):
        return self.exchange.group.num_ranks

    def output_is_reduced(self):
        return True

    def supports_async(self):
        return False

    @property
    def _num_sms(self):
        return self.manager.num_sms if self.manager else 0

    def prepare(
        self, a1, topk_weights, topk_ids, num_experts, expert_map, apply_router_weight_on_input, quant_config, defer_input_quant=False
    ):
        config = self.exchange.config
        if apply_router_weight_on_input:
            if topk_ids.shape[1] != 1:
                raise crossdock.UsageError(
                    f"prepare: apply_router_weight_on_input with top_k = {topk_ids.shape[1]}; only top_k = 1 has one weight a row"
                )
            a1, topk_weights = a1 * topk_weights.to(a1.dtype), torch.ones_like(topk_weights)
        scales = None
        if config.scale_bytes:
            a1, scales = self._quantise(a1, quant_config)
        received = self.exchange.dispatch(a1, topk_ids, topk_weights, scales, num_sms=self._num_sms)
        self._received[dbo_current_ubatch_id()] = received
        counts = mk.ExpertTokensMetadata(expert_num_tokens=received.expert_counts, expert_num_tokens_cpu=None)
        rows, row_scales = received.rows, received.scales
        if not config.scale_bytes and not defer_input_quant and quant_config.quant_dtype is not None:
            rows, row_scales = moe_kernel_quantize_input(
                rows, quant_config.a1_scale, quant_config.quant_dtype, quant_config.per_act_token_quant, quant_config.block_shape
            )
        if self.batched:
            return rows, row_scales, counts, None, None
        return (rows, row_scales, counts, *self._routing(received, num_experts))

    def _quantise(self, a1, quant_config):
        """Before the wire, with one float32 per group; a scale of the whole tensor is repeated for every row."""
        rows, scales = moe_kernel_quantize_input(
            a1, quant_config.a1_scale, quant_config.quant_dtype, quant_config.per_act_token_quant, quant_config.block_shape
        )
        groups = self.exchange.config.scale_bytes // 4
        return rows, scales.float().reshape(-1, scales.shape[-1] if scales.dim() else 1).expand(a1.shape[0], groups).contiguous()

    def _routing(self, received, num_experts):
        """Ids and weights for kernels that know no -1: such entries name an expert of another rank, with weight 0."""
        first, last = received.first_expert, received.first_expert + received.num_local_experts
        elsewhere = 0 if first > 0 else min(last, num_experts - 1)
        missing = received.topk_ids < 0
        return received.topk_ids.masked_fill(missing, elsewhere), received.topk_weights.masked_fill(missing, 0.0)

    def finalize(self, output, fused_expert_output, topk_weights, topk_ids, apply_router_weight_on_input, weight_and_reduce_impl):
        """Writes output [M, hidden]. Standard: `weight_and_reduce_impl` sums the experts of this rank for each received row first."""
        batch = dbo_current_ubatch_id()
        received, self._received[batch] = self._received[batch], None
        if not self.batched and fused_expert_output.dim() == 3:  # [rows, top_k, hidden], not reduced yet
            ids, weights = self._routing(received, self.exchange.config.num_experts)
            fused_expert_output = weight_and_reduce_impl.apply(
                output=None,
                fused_expert_output=fused_expert_output,
                topk_weights=weights,
                topk_ids=ids,
                apply_router_weight_on_input=apply_router_weight_on_input,
            )
        self.exchange.combine(received, fused_expert_output, out=output, num_sms=self._num_sms)
