# SPDX-License-Identifier: Apache-2.0
"""mori.ops version 1 within one host: configuration and operator."""
import dataclasses
import enum

import torch

import crossdock
from crossdock.compat.mori import shmem

__all__ = ["EpDispatchCombineConfig", "EpDispatchCombineKernelType", "EpDispatchCombineOp", "EpDispatchCombineQuantType", "EpDispatchRoutingHandle",
           "launch_local_expert_count"]


class EpDispatchCombineKernelType(enum.IntEnum):
    """IntraNode, IntraNodeLL and AsyncLL are one implementation here; the others span hosts and are refused."""
    IntraNode = 0
    InterNode = 1
    InterNodeV1 = 2
    InterNodeV1LL = 3
    AsyncLL = 4
    IntraNodeLL = 5


class EpDispatchCombineQuantType(enum.IntEnum):
    None_ = 0
    Fp8DirectCast = 1
    Fp8BlockwiseQuant = 2
    Fp4BlockwiseQuant = 3


_ONE_HOST = (EpDispatchCombineKernelType.IntraNode, EpDispatchCombineKernelType.AsyncLL, EpDispatchCombineKernelType.IntraNodeLL)
_WIRES = {"none": "own", "fp8_direct_cast": "fp8_direct_cast", "fp8_blockwise": "fp8_block128"}
_QUANT_NAMES = ("none", "fp8_direct_cast", "fp8_blockwise", "fp4_blockwise")
_BLOCK = 128


@dataclasses.dataclass
class EpDispatchCombineConfig:
    """MORI's fields in MORI's order; `kept_routings` is ours: routing handles that may live at once."""
    data_type: torch.dtype
    rank: int
    world_size: int
    hidden_dim: int
    scale_dim: int
    scale_type_size: int
    max_token_type_size: int
    max_num_inp_token_per_rank: int
    num_experts_per_rank: int
    num_experts_per_token: int
    warp_num_per_block: int = 8
    block_num: int = 80
    max_total_recv_tokens: int = 0
    use_external_inp_buf: bool = True
    kernel_type: EpDispatchCombineKernelType = EpDispatchCombineKernelType.IntraNode
    gpu_per_node: int = 8
    rdma_block_num: int = 0
    num_qp_per_pe: int = 1
    quant_type: object = "none"
    kept_routings: int = 2


@dataclasses.dataclass
class EpDispatchRoutingHandle:
    """A kept routing. MORI's maps of slots are not kept; `plan` is what stands for them."""
    plan: crossdock.Plan
    total_recv_token_num: torch.Tensor
    disp_tok_id_to_src_tok_id_local: torch.Tensor
    cur_rank_num_token: int = 0

    def tensors(self):
        raise NotImplementedError("EpDispatchRoutingHandle.tensors: the routing lives in the library's memory; keep the handle itself")


class EpDispatchCombineOp:
    """Dispatch and combine with MORI's arguments. Rows arrive in the order (source rank, source token), the same in every run.

    Memory is taken at the first dispatch of a data type and hidden size: a collective moment, so run each once before a graph is
    captured. Destruction is local."""

    def __init__(self, config):
        self.config = config
        self._group = shmem._joined.group()
        self._check()
        width, tokens = config.world_size, config.max_num_inp_token_per_rank
        budget = -(-config.max_total_recv_tokens // width)
        self._rows = width * (min(tokens, budget) if config.max_total_recv_tokens > 0 else tokens)
        self._exchanges, self._combine_dtypes, self._outputs = {}, {}, {}
        self._received = self._sent = self._routing = None
        self.local_expert_count = None
        self.launch_config_mode = "MANUAL"
        self._last_combine_kernel_name = None

    def _check(self):
        config = self.config
        if config.kernel_type not in _ONE_HOST:
            raise NotImplementedError(f"EpDispatchCombineOp: kernel_type {config.kernel_type.name} spans hosts; Crossdock serves the ranks of one")
        if (config.rank, config.world_size) != (self._group.rank, self._group.num_ranks):
            raise crossdock.ConfigError(f"EpDispatchCombineOp: the config says rank {config.rank} of {config.world_size}, the group rank "
                                        f"{self._group.rank} of {self._group.num_ranks}")
        if self._quant == "fp4_blockwise":
            raise NotImplementedError("EpDispatchCombineOp: quant_type fp4_blockwise is a wire that Crossdock does not have; use fp8_blockwise")
        if self._quant not in _WIRES:
            raise crossdock.ConfigError(f"EpDispatchCombineOp: quant_type = {config.quant_type!r}; there are {', '.join(_WIRES)}")

    @property
    def _quant(self):
        kind = self.config.quant_type
        return kind if isinstance(kind, str) else _QUANT_NAMES[int(kind)]

    @property
    def _fp8_blockwise_combine_scale_dim(self):
        return -(-self.config.hidden_dim // _BLOCK)

    # ---- exchanges -----------------------------------------------------------------------------------------------------

    def _exchange(self, dispatch_dtype, combine_dtype, hidden, layout="token_major"):
        """One per pair of types and hidden size; collective where it is new."""
        key = (dispatch_dtype, combine_dtype, hidden, layout)
        if key not in self._exchanges:
            config = self.config
            self._exchanges[key] = self._group.exchange(crossdock.Config(
                hidden=hidden, num_experts=config.num_experts_per_rank * config.world_size, top_k=config.num_experts_per_token,
                max_tokens=config.max_num_inp_token_per_rank, dispatch_dtype=dispatch_dtype, combine_dtype=combine_dtype,
                combine_wire=_WIRES[self._quant], scale_bytes=config.scale_dim * config.scale_type_size, layout=layout,
                row_capacity=self._rows, overflow="error", zero_copy=not config.use_external_inp_buf and layout == "token_major",
                combine_weights=True, kept_plans=config.kept_routings))
        return self._exchanges[key]

    def _expected_combine_dtype(self, dispatch_dtype, hidden):
        """MORI learns it in combine; here it is what the last combine after such a dispatch had, at first the same type."""
        usual = torch.bfloat16 if self._quant != "none" else dispatch_dtype
        return self._combine_dtypes.get((dispatch_dtype, hidden), usual)

    def _prepare_combine(self, dtype):
        """Routes the last dispatch once more where its exchange combines another type; the next dispatch knows better."""
        if self._sent is None:
            raise crossdock.StateError("EpDispatchCombineOp.combine: nothing was dispatched")
        like, weights, scales, indices, hidden, layout = self._sent
        if dtype == self._combine_dtype:
            return
        self._combine_dtypes[like.dtype, hidden] = dtype
        exchange = self._exchange(like.dtype, dtype, hidden, layout)
        self._received = exchange.dispatch(like, indices, weights, scales)
        self._combine_dtype = dtype

    # ---- dispatch ------------------------------------------------------------------------------------------------------

    def _dispatch(self, input, weights, scales, indices, block_num, layout, routing=None):
        packed = 2 if input.dtype == getattr(torch, "float4_e2m1fn_x2", None) else 1
        hidden = input.size(1) * packed
        if hidden > self.config.hidden_dim * packed:
            raise crossdock.UsageError(f"EpDispatchCombineOp.dispatch: hidden size {hidden} is above config.hidden_dim = {self.config.hidden_dim}")
        if scales is None and self.config.scale_dim * self.config.scale_type_size:
            scales = input.new_zeros((input.size(0), self.config.scale_dim * self.config.scale_type_size), dtype=torch.uint8)
        dtype = self._expected_combine_dtype(input.dtype, hidden)
        exchange = self._exchange(input.dtype, dtype, hidden, layout)
        self._received = None  # a dispatch without combine is over
        self._received = exchange.dispatch(input, indices, weights, scales, plan=routing and routing.plan, num_sms=max(block_num, 0))
        self._combine_dtype = dtype
        self._sent = (input, weights, scales, indices, hidden, layout)
        self._sources, self._counts, self._routing = self._received.sources, self._received.counts, routing
        return self._received

    def _total(self):
        return self._counts.words.view(torch.int32)[:1]  # the low half of the first count

    def dispatch(self, input, weights, scales, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1, call_local_expert_count=False, *,
                 routing=None, return_routing=False):
        """(rows [R, H], weights [R, K], scales or None, indices [R, K], total_recv int32[1]); with return_routing a handle too."""
        if routing is not None and return_routing:
            raise ValueError("EpDispatchCombineOp.dispatch: routing and return_routing exclude each other")
        if routing is not None and input.size(0) != routing.cur_rank_num_token:
            raise ValueError(f"EpDispatchCombineOp.dispatch: {input.size(0)} tokens; the routing is of {routing.cur_rank_num_token}")
        received = self._dispatch(input, weights, scales, indices, block_num, "token_major", routing)
        if call_local_expert_count:
            self.local_expert_count = received.expert_counts
        answer = (received.rows, received.weights, received.scales if scales is not None else None, received.ids, self._total())
        if not return_routing:
            return answer
        return (*answer, EpDispatchRoutingHandle(received.keep(), self._total(), self._flat_sources(received.sources), input.size(0)))

    def dispatch_send(self, input, weights, scales, indices, block_num=-1, warp_per_block=-1, call_local_expert_count=False):
        """The whole dispatch is enqueued here; dispatch_recv has nothing left to do."""
        return self.dispatch(input, weights, scales, indices, block_num, -1, warp_per_block, call_local_expert_count)

    def dispatch_recv(self, block_num=-1, warp_per_block=-1, call_local_expert_count=False):
        if call_local_expert_count:
            self.local_expert_count = self._received.expert_counts

    # ---- combine -------------------------------------------------------------------------------------------------------

    def combine(self, input, weights, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1, use_external_inp_buf=-1, call_reset=False, *,
                routing=None):
        """(out [M, H], weights [M, K] or None): out[t] is the sum over the distinct ranks of t. Rows beyond this rank's tokens are stale."""
        external = self.config.use_external_inp_buf if use_external_inp_buf == -1 else bool(use_external_inp_buf)
        if not external and self.config.use_external_inp_buf:
            raise NotImplementedError("EpDispatchCombineOp.combine: zero-copy needs config.use_external_inp_buf=False, for its memory")
        self._check_indices(indices, routing)
        if routing is None:
            self._prepare_combine(input.dtype)
        rows = input if external else self._received.combine_buffer(input.dtype, self._sent[4])
        return self._combine(rows, weights, routing, block_num)

    def _check_indices(self, indices, routing):
        tokens = routing.cur_rank_num_token if routing is not None else self._sent[3].size(0) if self._sent else -1
        if indices is not None and indices.size(0) != tokens:
            raise ValueError(f"EpDispatchCombineOp.combine: indices has {indices.size(0)} rows; must be this rank's own of the dispatch, {tokens}")

    def _combine(self, rows, weights, routing, block_num):
        handle = routing.plan if routing is not None else self._received
        tokens = handle.num_tokens
        out, out_weights = self._output(rows.dtype, rows.size(-1), rows.device)
        wanted = weights is not None and weights.numel() > 0
        if wanted and weights.size(0) != self._rows:
            raise ValueError(f"EpDispatchCombineOp.combine: weights has {weights.size(0)} rows; must be those of dispatch, {self._rows}")
        handle.exchange.combine(handle, rows, out=out[:tokens], weights=weights if wanted else None,
                                out_weights=out_weights[:tokens] if wanted else None, num_sms=max(block_num, 0))
        return out, out_weights if wanted else None

    def _output(self, dtype, columns, device):
        key = (dtype, columns)
        if key not in self._outputs:
            tokens = self.config.max_num_inp_token_per_rank
            self._outputs[key] = (torch.empty(tokens, columns, dtype=dtype, device=device),
                                  torch.empty(tokens, self.config.num_experts_per_token, dtype=torch.float32, device=device))
        return self._outputs[key]

    def combine_send(self, input, weights, indices, block_num=-1, warp_per_block=-1):
        """The whole combine is enqueued here; combine_recv has nothing left to do."""
        return self.combine(input, weights, indices, block_num)

    def combine_recv(self, block_num=-1, warp_per_block=-1):
        return None

    def get_registered_combine_input_buffer(self, dtype, hidden_dim=-1):
        """[R, H]: expert outputs written here need no copy. Needs use_external_inp_buf=False."""
        self._prepare_combine(dtype)
        packed = 2 if dtype == getattr(torch, "float4_e2m1fn_x2", None) else 1
        return self._received.combine_buffer(dtype, hidden_dim * packed if hidden_dim > 0 else self._sent[4])

    # ---- rows by expert ("standard MoE") -------------------------------------------------------------------------------

    def dispatch_standard_moe(self, input, weights, scales, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1):
        """(rows [E, W * M, H], counts int32[E], source positions int32[E, W * M], an empty int64[0])."""
        received = self._dispatch(input, weights, scales, indices, block_num, "expert_major")
        return received.rows, received.expert_counts, self._flat_sources(received.sources), torch.empty(0, dtype=torch.int64, device=input.device)

    def combine_standard_moe(self, input, weights, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1, call_reset=False):
        """(out [M, H], None), weighted by the weights that were dispatched: pass the same here."""
        if weights is not None and self._sent and weights is not self._sent[1]:
            raise NotImplementedError("EpDispatchCombineOp.combine_standard_moe: other weights than dispatch_standard_moe had; pass them there")
        self._check_indices(indices, None)
        self._prepare_combine(input.dtype)
        return self._combine(input, None, None, block_num)

    def convert_dispatch_output(self, *_, **__):
        raise NotImplementedError("EpDispatchCombineOp.convert_dispatch_output: use dispatch_standard_moe, which gives rows by expert at once")

    def convert_combine_input(self, *_, **__):
        raise NotImplementedError("EpDispatchCombineOp.convert_combine_input: use combine_standard_moe, which takes rows by expert")

    # ---- questions -----------------------------------------------------------------------------------------------------

    def _flat_sources(self, sources):
        stride = self.config.world_size * self.config.max_num_inp_token_per_rank
        return torch.where(sources[..., 0] < 0, -1, sources[..., 0] * stride + sources[..., 1])

    def get_dispatch_src_token_pos(self):
        """int32[total_recv]: source rank * W * M + source token. Waits for the device."""
        return self._flat_sources(self._sources[:self._counts.host()["num_rows"]])

    def decode_send_flat_idx(self, position):
        stride = self.config.world_size * self.config.max_num_inp_token_per_rank
        return position // stride, position % stride

    def get_launch_config(self, is_dispatch=True, block_num=-1, rdma_block_num=-1, warp_per_block=-1):
        """What MORI would launch: arguments, else the config. Here block_num is an upper bound on blocks, warps are the library's."""
        config = self.config
        return (block_num if block_num > 0 else config.block_num, rdma_block_num if rdma_block_num > 0 else config.rdma_block_num,
                warp_per_block if warp_per_block > 0 else config.warp_num_per_block)

    def max_num_tokens_to_recv(self):
        return self._rows

    def max_num_tokens_to_recv_per_rank(self):
        return self._rows // self.config.world_size

    def max_num_tokens_to_send(self):
        return self.config.world_size * self.config.max_num_inp_token_per_rank

    def max_num_tokens_to_send_per_rank(self):
        return self.config.max_num_inp_token_per_rank

    def reset(self):
        """Nothing needs resetting."""

    def get_debug_time_buf(self):
        raise NotImplementedError("EpDispatchCombineOp.get_debug_time_buf: use Config(trace_events=...) and Exchange.trace()")


def launch_local_expert_count(*_, **__):
    raise NotImplementedError("launch_local_expert_count: takes raw pointers of mori.cpp; pass call_local_expert_count=True to dispatch")
