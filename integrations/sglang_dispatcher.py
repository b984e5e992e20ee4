# SPDX-License-Identifier: Apache-2.0
"""Crossdock as a token dispatcher of SGLang: rows by expert with counts on the device, the format that SGLang calls DEEPEP_LL.

To hook in: register the class where SGLang chooses a dispatcher for its all-to-all backend, and the backend's name where runners ask
whether they are served by rows of that format. tests/python/test_integrations.py runs this file against stubs of the interface."""

import threading

import torch
from sglang.srt.layers.moe.token_dispatcher.base import BaseDispatcher
from sglang.srt.layers.moe.token_dispatcher.deepep import DeepEPLLDispatchOutput

import crossdock

GROUP_SIZE = 128  # elements that share a float32 scale
_groups, _lock = {}, threading.Lock()


def group_of(process_group):
    """One Crossdock group per process group: dispatchers of all layers and both halves of a split batch share it."""
    with _lock:
        if process_group not in _groups:
            _groups[process_group] = crossdock.Group.from_torch(process_group)
        return _groups[process_group]


def close_groups():
    """Leaves all groups: when the engine shuts down, before torch's process groups go. Local."""
    with _lock:
        while _groups:
            _groups.popitem()[1].close()


class CrossdockDispatcher(BaseDispatcher):
    """dispatch and combine, or their halves a and b: half a enqueues everything, half b only hands over what it left."""

    def __init__(
        self,
        group,
        router_topk,
        permute_fusion=False,
        num_experts=None,
        num_local_experts=None,
        hidden_size=None,
        params_dtype=None,
        deepep_mode=None,
        async_finish=False,
        return_recv_hook=False,
        max_tokens_per_rank=128,
        quantise=None,
    ):
        super().__init__()
        if getattr(deepep_mode, "value", deepep_mode) == "normal":
            raise crossdock.UsageError(
                "CrossdockDispatcher: deepep_mode = normal asks for rows by token; this one serves the format of low_latency "
                "in prefill and decode, with max_tokens_per_rank as large as a prefill"
            )
        self.group, self.quantise = group_of(group), quantise
        members = dict(
            hidden=hidden_size,
            num_experts=num_experts,
            top_k=router_topk,
            max_tokens_per_rank=max_tokens_per_rank,
            layout="expert_major",
            dispatch_dtype=params_dtype,
            combine_dtype=params_dtype,
            max_in_flight=2,
        )
        self.plain = crossdock.Config(**members)
        self.scaled = self.plain.replace(dispatch_dtype="fp8_e4m3", scale_bytes=4 * -(-hidden_size // GROUP_SIZE))
        self.num_sms, self.quant_config = 0, {}
        self._exchanges, self._dispatched, self._received, self._combined = {}, None, None, None

    def set_quant_config(self, quant_config):
        self.quant_config = quant_config

    def set_overlap_args(self, combine_overlap_args=None, **_):
        """Of tile-wise overlap only the number of SMs is taken; combine starts after the whole expert step."""
        self.num_sms = getattr(combine_overlap_args, "num_sms", 0) or 0

    def _exchange(self):
        config = self.scaled if self.quantise is not None else self.plain
        if config not in self._exchanges:
            self._exchanges[config] = self.group.exchange(config)
        return self._exchanges[config]

    # ---- dispatch --------------------------------------------------------------------------------------------------------

    def dispatch(self, hidden_states, topk_output):
        self.dispatch_a(hidden_states, topk_output)
        return self.dispatch_b()

    def dispatch_a(self, hidden_states, topk_output):
        if self._dispatched is not None:
            raise crossdock.StateError("CrossdockDispatcher.dispatch_a: the dispatch before waits for dispatch_b")
        exchange, scales = self._exchange(), None
        ids, weights = topk_output.topk_ids, topk_output.topk_weights.float()
        if self.quantise is not None:
            hidden_states, scales = self.quantise(hidden_states, GROUP_SIZE)
        self._received = exchange.dispatch(hidden_states, ids, weights, scales, num_sms=self.num_sms)
        self._dispatched = DeepEPLLDispatchOutput(
            self._received.rows, self._received.scales, ids, weights, self._received.expert_counts, self._expected_rows(exchange.config)
        )

    def _expected_rows(self, config):
        """Rows per expert that a balanced routing would give: a hint for the grouped product, known without the device."""
        return -(-config.max_tokens_per_rank * self.group.num_ranks * config.top_k // config.num_experts)

    def dispatch_b(self):
        dispatched, self._dispatched = self._dispatched, None
        if dispatched is None:
            raise crossdock.StateError("CrossdockDispatcher.dispatch_b: call dispatch_a first")
        return dispatched

    # ---- combine ---------------------------------------------------------------------------------------------------------

    def combine(self, combine_input):
        self.combine_a(combine_input)
        return self.combine_b()

    def combine_a(self, combine_input):
        """Weighs and sums with the weights of dispatch; those of the input are the same by SGLang's contract."""
        if self._received is None:
            raise crossdock.StateError("CrossdockDispatcher.combine_a: nothing was dispatched")
        received, self._received = self._received, None
        self._combined = received.exchange.combine(received, combine_input.hidden_states, num_sms=self.num_sms)

    def combine_b(self) -> torch.Tensor:
        combined, self._combined = self._combined, None
        if combined is None:
            raise crossdock.StateError("CrossdockDispatcher.combine_b: call combine_a first")
        return combined
