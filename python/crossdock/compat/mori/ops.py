# SPDX-License-Identifier: Apache-2.0
"""mori.ops version 1 within one host: configuration and operator."""

import dataclasses
import enum

import torch

import crossdock
from crossdock.compat.mori import shmem

__all__ = [
    "EpDispatchCombineConfig",
    "EpDispatchCombineKernelType",
    "EpDispatchCombineOp",
    "EpDispatchCombineQuantType",
    "EpDispatchRoutingHandle",
    "launch_local_expert_count",
    "warmup_jit_kernels",
]


class EpDispatchCombineKernelType(enum.IntEnum):
    """IntraNode, IntraNodeLL and AsyncLL are one implementation here; the others span hosts and are refused."""

    IntraNode = 0
    InterNode = 1
    InterNodeV1 = 2
    InterNodeV1LL = 3
    AsyncLL = 4
    IntraNodeLL = 5


class EpDispatchCombineQuantType(enum.IntEnum):
    """What crosses the link in combine. Fp4BlockwiseQuant is refused."""

    None_ = 0
    Fp8DirectCast = 1
    Fp8BlockwiseQuant = 2
    Fp4BlockwiseQuant = 3


_ONE_HOST = (EpDispatchCombineKernelType.IntraNode, EpDispatchCombineKernelType.AsyncLL, EpDispatchCombineKernelType.IntraNodeLL)
_QUANT_NAMES = ("none", "fp8_direct_cast", "fp8_blockwise", "fp4_blockwise")  # by number
_BLOCK = 128
_ABSENT_OF_OP = {
    "_handle": "there is no handle of mori.cpp; the operator's methods are all there is",
    "_cached_dispatch_launch": "launches are not cached; get_launch_config(True) has the newest",
    "_cached_combine_launch": "launches are not cached; get_launch_config(False) has the newest",
    "get_debug_time_offset": "use Config(trace_events=...) and Exchange.trace()",
}
_ABSENT = {
    "dispatch_combine_v2": "version 2 of the interface is not served; use version 1",
    "local_expert_count": "takes raw pointers of mori.cpp; pass call_local_expert_count=True to dispatch",
    "tuning_config": "geometry comes from a tuning file of Crossdock; see docs/howto/tune.md",
}


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
    kept_routings: int = 16


@dataclasses.dataclass
class _Sent:
    """What the routing of a dispatch was made of, for another exchange to make it again. `own`: the caller cannot overwrite it."""

    like: torch.Tensor
    weights: torch.Tensor | None
    ids: torch.Tensor
    hidden: int
    layout: str
    own: bool = False

    def cloned(self):
        if self.own:
            return self
        return dataclasses.replace(self, weights=None if self.weights is None else self.weights.clone(), ids=self.ids.clone(), own=True)

    def again(self, exchange):
        """The same routing in another exchange; the payload is whatever is there now, for combine needs none of it."""
        scales = (
            self.like.new_zeros((len(self.like), exchange.config.scale_bytes), dtype=torch.uint8) if exchange.config.scale_bytes else None
        )
        return exchange.dispatch(self.like, self.ids, self.weights, scales)


@dataclasses.dataclass
class EpDispatchRoutingHandle:
    """A kept routing. MORI's maps of slots are not kept; `plans`, one for each exchange that used it, stand for them."""

    plans: dict
    sent: _Sent
    total_recv_token_num: torch.Tensor
    disp_tok_id_to_src_tok_id_local: torch.Tensor
    cur_rank_num_token: int = 0

    def plan_of(self, exchange):
        """The routing in `exchange`, made there where it is missing: collective, then."""
        if exchange not in self.plans:
            self.plans[exchange] = self.sent.again(exchange).retain_plan()
        return self.plans[exchange]

    @staticmethod
    def from_tensors(*_, **__):
        """Not served: the routing is not in tensors."""
        raise NotImplementedError(
            "EpDispatchRoutingHandle.from_tensors: a routing lives in the library's memory; dispatch(return_routing=True)"
        )

    def tensors(self):
        """Not served: the routing is not in tensors."""
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
        self._exchanges, self._combine_dtypes, self._outputs, self._last_launches = {}, {}, {}, {}
        self._received = self._sent = self._given_weights = None
        self.local_expert_count = None
        self.launch_config_mode = "MANUAL"
        self._last_combine_kernel_name = None

    def _check(self):
        config = self.config
        if config.kernel_type not in _ONE_HOST:
            raise NotImplementedError(
                f"EpDispatchCombineOp: kernel_type {config.kernel_type.name} spans hosts; Crossdock serves the ranks of one"
            )
        if (config.rank, config.world_size) != (self._group.rank, self._group.num_ranks):
            raise crossdock.ConfigError(
                f"EpDispatchCombineOp: the config says rank {config.rank} of {config.world_size}, the group rank "
                f"{self._group.rank} of {self._group.num_ranks}"
            )
        if self._quant == "fp4_blockwise":
            raise NotImplementedError(
                "EpDispatchCombineOp: quant_type fp4_blockwise is a cast of combine that Crossdock does not have; use fp8_blockwise"
            )
        if self._quant not in crossdock.COMBINE_QUANTS:
            raise crossdock.ConfigError(
                f"EpDispatchCombineOp: quant_type = {config.quant_type!r}; there are {', '.join(crossdock.COMBINE_QUANTS)}"
            )

    @property
    def _quant(self):
        kind = self.config.quant_type
        return kind if isinstance(kind, str) else _QUANT_NAMES[int(kind)]

    @property
    def _fp8_blockwise_combine_scale_dim(self):
        return -(-self.config.hidden_dim // _BLOCK)

    def _geometry(self, block_num, warp_per_block):
        """Numbers of a call, else of the config where they are not MORI's defaults, which suit other GPUs; else the library's rule."""

        def chosen(of_call, member):
            of_config = getattr(self.config, member)
            return of_call if of_call > 0 else 0 if of_config == getattr(EpDispatchCombineConfig, member) else max(of_config, 0)

        return {"num_sms": chosen(block_num, "block_num"), "num_warps": chosen(warp_per_block, "warp_num_per_block")}

    # ---- exchanges -----------------------------------------------------------------------------------------------------

    def _exchange(self, dispatch_dtype, combine_dtype, hidden, layout="token_major"):
        """One per pair of types and hidden size; collective where it is new."""
        key = (dispatch_dtype, combine_dtype, hidden, layout)
        if key not in self._exchanges:
            config = self.config
            self._exchanges[key] = self._group.exchange(
                crossdock.Config(
                    hidden=hidden,
                    num_experts=config.num_experts_per_rank * config.world_size,
                    top_k=config.num_experts_per_token,
                    max_tokens_per_rank=config.max_num_inp_token_per_rank,
                    dispatch_dtype=dispatch_dtype,
                    combine_dtype=combine_dtype,
                    combine_quant=self._quant,
                    scale_bytes=config.scale_dim * config.scale_type_size,
                    layout=layout,
                    row_capacity=self._rows,
                    overflow="error",
                    zero_copy=not config.use_external_inp_buf and layout == "token_major",
                    combine_topk_weights=True,
                    max_kept_plans=config.kept_routings,
                )
            )
        return self._exchanges[key]

    def _expected_combine_dtype(self, dispatch_dtype, hidden):
        """MORI learns it in combine; here it is what the last combine after such a dispatch had, at first the config's or bf16 for
        one-byte rows and the type of all others."""
        if dispatch_dtype.itemsize > 1 and self._quant == "none":
            usual = dispatch_dtype
        else:
            usual = self.config.data_type if self.config.data_type.itemsize > 1 else torch.bfloat16
        return self._combine_dtypes.get((dispatch_dtype, hidden), usual)

    def _prepare_combine(self, dtype):
        """Routes the last dispatch once more where its exchange combines another type; the next dispatch takes the right one."""
        sent = self._sent
        if sent is None:
            raise crossdock.StateError("EpDispatchCombineOp.combine: nothing was dispatched")
        self._combine_dtypes[sent.like.dtype, sent.hidden] = dtype
        if dtype == self._combine_dtype:
            return
        if not sent.own and sent.ids._version != self._ids_version:
            raise crossdock.StateError(
                f"EpDispatchCombineOp.combine: rows of {dtype} after combines of {self._combine_dtype}, and the ids of the "
                "dispatch were overwritten meanwhile; dispatch again"
            )
        self._received = sent.again(self._exchange(sent.like.dtype, dtype, sent.hidden, sent.layout))
        self._combine_dtype = dtype

    # ---- dispatch ------------------------------------------------------------------------------------------------------

    def _dispatch(self, input, weights, scales, indices, geometry, layout, routing=None):
        packed = 2 if input.dtype == getattr(torch, "float4_e2m1fn_x2", None) else 1
        hidden = input.size(1) * packed
        if hidden > self.config.hidden_dim * packed:
            raise crossdock.UsageError(
                f"EpDispatchCombineOp.dispatch: hidden size {hidden} is above config.hidden_dim = {self.config.hidden_dim}"
            )
        if self.config.scale_dim * self.config.scale_type_size == 0:
            scales = None  # MORI takes none then, whatever was passed
        elif scales is None:
            scales = input.new_zeros((input.size(0), self.config.scale_dim * self.config.scale_type_size), dtype=torch.uint8)
        known = (input.dtype, hidden) in self._combine_dtypes
        dtype = self._expected_combine_dtype(input.dtype, hidden)
        exchange = self._exchange(input.dtype, dtype, hidden, layout)
        plan = routing and routing.plan_of(exchange)
        self._received = None  # a dispatch without combine is over
        self._received = exchange.dispatch(input, indices, weights, scales, plan=plan, **geometry)
        self._combine_dtype, self._last_launches[True] = dtype, exchange.last_launch
        sent = routing.sent if routing is not None else _Sent(input, weights, indices, hidden, layout)
        self._sent = sent if known else sent.cloned()  # combine may have to route once more, from ids that the caller reuses
        self._ids_version, self._given_weights = sent.ids._version, weights
        self._sources, self._counts = self._received.sources, self._received.counts
        return self._received

    def _total(self):
        return self._counts.words.view(torch.int32)[:1]  # the low half of the first count

    def dispatch(
        self,
        input,
        weights,
        scales,
        indices,
        block_num=-1,
        rdma_block_num=-1,
        warp_per_block=-1,
        call_local_expert_count=False,
        *,
        routing=None,
        return_routing=False,
    ):
        """(rows [R, H], weights [R, K], scales or None, indices [R, K], total_recv int32[1]); with return_routing a handle too."""
        if routing is not None and return_routing:
            raise ValueError("EpDispatchCombineOp.dispatch: routing and return_routing exclude each other")
        if routing is not None and input.size(0) != routing.cur_rank_num_token:
            raise ValueError(f"EpDispatchCombineOp.dispatch: {input.size(0)} tokens; the routing is of {routing.cur_rank_num_token}")
        received = self._dispatch(input, weights, scales, indices, self._geometry(block_num, warp_per_block), "token_major", routing)
        if call_local_expert_count:
            self.local_expert_count = received.expert_counts
        scales = received.scales if scales is not None and self.config.scale_dim else None
        answer = (received.rows, received.topk_weights, scales, received.topk_ids, self._total())
        if not return_routing:
            return answer
        self._sent = self._sent.cloned()
        plans, sources = {received.exchange: received.retain_plan()}, self._flat_sources(received.sources)
        return (*answer, EpDispatchRoutingHandle(plans, self._sent, self._total().clone(), sources, input.size(0)))

    def dispatch_send(self, input, weights, scales, indices, block_num=-1, warp_per_block=-1, call_local_expert_count=False):
        """The whole dispatch is enqueued here; dispatch_recv has nothing left to do."""
        return self.dispatch(input, weights, scales, indices, block_num, -1, warp_per_block, call_local_expert_count)

    def dispatch_recv(self, block_num=-1, warp_per_block=-1, call_local_expert_count=False):
        """Counts the pairs of local experts, if asked; the rows have come with dispatch_send."""
        if call_local_expert_count:
            self.local_expert_count = self._received.expert_counts

    # ---- combine -------------------------------------------------------------------------------------------------------

    def combine(
        self,
        input,
        weights,
        indices,
        block_num=-1,
        rdma_block_num=-1,
        warp_per_block=-1,
        use_external_inp_buf=-1,
        call_reset=False,
        *,
        routing=None,
    ):
        """(out [M, H], weights [M, K] or None): out[t] is the sum over the distinct ranks of t.

        Rows beyond this rank's tokens are stale."""
        external = self.config.use_external_inp_buf if use_external_inp_buf == -1 else bool(use_external_inp_buf)
        if not external and self.config.use_external_inp_buf:
            raise NotImplementedError("EpDispatchCombineOp.combine: zero-copy needs config.use_external_inp_buf=False, for its memory")
        self._check_indices(indices, routing)
        if routing is None:
            self._prepare_combine(input.dtype)
        rows = input if external else self._received.combine_buffer(input.dtype, self._sent.hidden)
        return self._combine(rows, weights, routing, self._geometry(block_num, warp_per_block))

    def _check_indices(self, indices, routing):
        tokens = routing.cur_rank_num_token if routing is not None else len(self._sent.ids) if self._sent else -1
        if indices is not None and indices.size(0) != tokens:
            raise ValueError(
                f"EpDispatchCombineOp.combine: indices has {indices.size(0)} rows; must be this rank's own of the dispatch, {tokens}"
            )

    def _combine(self, rows, weights, routing, geometry):
        handle = self._received if routing is None else self._plan_for(routing, rows.dtype)
        tokens = handle.num_tokens
        out, sums = self._output(rows.dtype, rows.size(-1), rows.device)
        wanted = weights is not None and weights.numel() > 0
        if wanted and weights.size(0) != self._rows:
            raise ValueError(f"EpDispatchCombineOp.combine: weights has {weights.size(0)} rows; must be those of dispatch, {self._rows}")
        handle.exchange.combine(
            handle,
            rows,
            out=out[:tokens],
            topk_weights=weights if wanted else None,
            out_topk_weights=sums[:tokens] if wanted else None,
            **geometry,
        )
        self._last_launches[False] = handle.exchange.last_launch
        return out, sums if wanted else None

    def _plan_for(self, routing, dtype):
        sent = routing.sent
        self._combine_dtypes[sent.like.dtype, sent.hidden] = dtype
        exchange = self._exchange(sent.like.dtype, dtype, sent.hidden, sent.layout)
        if exchange not in routing.plans and self._sent is sent and self._received.exchange is exchange:
            routing.plans[exchange] = self._received.retain_plan()  # get_registered_combine_input_buffer routed it there
        return routing.plan_of(exchange)

    def _output(self, dtype, columns, device):
        key = (dtype, columns)
        if key not in self._outputs:
            tokens = self.config.max_num_inp_token_per_rank
            self._outputs[key] = (
                torch.empty(tokens, columns, dtype=dtype, device=device),
                torch.empty(tokens, self.config.num_experts_per_token, dtype=torch.float32, device=device),
            )
        return self._outputs[key]

    def combine_send(self, input, weights, indices, block_num=-1, warp_per_block=-1):
        """The whole combine is enqueued here; combine_recv has nothing left to do."""
        return self.combine(input, weights, indices, block_num, -1, warp_per_block)

    def combine_recv(self, block_num=-1, warp_per_block=-1):
        """Nothing is left to do: combine_send gave the result."""
        return None

    def get_registered_combine_input_buffer(self, dtype, hidden_dim=-1):
        """[R, H]: expert outputs written here need no copy. Needs use_external_inp_buf=False."""
        self._prepare_combine(dtype)
        packed = 2 if dtype == getattr(torch, "float4_e2m1fn_x2", None) else 1
        return self._received.combine_buffer(dtype, hidden_dim * packed if hidden_dim > 0 else self._sent.hidden)

    # ---- rows by expert ("standard MoE") -------------------------------------------------------------------------------

    def dispatch_standard_moe(self, input, weights, scales, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1):
        """(rows [E, W * M, H], counts int32[E], source positions int32[E, W * M], an empty int64[0])."""
        received = self._dispatch(input, weights, scales, indices, self._geometry(block_num, warp_per_block), "expert_major")
        nothing = torch.empty(0, dtype=torch.int64, device=input.device)
        return received.rows, received.expert_counts, self._flat_sources(received.sources), nothing

    def combine_standard_moe(self, input, weights, indices, block_num=-1, rdma_block_num=-1, warp_per_block=-1, call_reset=False):
        """(out [M, H], None), weighted by the weights that were dispatched: pass the same here.

        A copy is compared, which waits for the device."""
        if weights is not None and self._sent and not self._are_the_weights_sent(weights):
            raise NotImplementedError(
                "EpDispatchCombineOp.combine_standard_moe: other weights than dispatch_standard_moe had; pass them there"
            )
        self._check_indices(indices, None)
        self._prepare_combine(input.dtype)
        return self._combine(input, None, None, self._geometry(block_num, warp_per_block))

    def _are_the_weights_sent(self, weights):
        return weights is self._given_weights or (self._sent.weights is not None and torch.equal(weights, self._sent.weights))

    def convert_dispatch_output(self, *_, **__):
        """Not served: rows by expert come from dispatch_standard_moe at once."""
        raise NotImplementedError(
            "EpDispatchCombineOp.convert_dispatch_output: use dispatch_standard_moe, which gives rows by expert at once"
        )

    def convert_combine_input(self, *_, **__):
        """Not served: combine_standard_moe takes rows by expert."""
        raise NotImplementedError("EpDispatchCombineOp.convert_combine_input: use combine_standard_moe, which takes rows by expert")

    # ---- questions -----------------------------------------------------------------------------------------------------

    def _flat_sources(self, sources):
        stride = self.config.world_size * self.config.max_num_inp_token_per_rank
        return torch.where(sources[..., 0] < 0, -1, sources[..., 0] * stride + sources[..., 1])

    def get_dispatch_src_token_pos(self):
        """int32[total_recv]: source rank * W * M + source token. Waits for the device."""
        return self._flat_sources(self._sources[: self._counts.host()["num_rows"]])

    def decode_send_flat_idx(self, position):
        """(source rank, source token) of a position that get_dispatch_src_token_pos gave."""
        stride = self.config.world_size * self.config.max_num_inp_token_per_rank
        return position // stride, position % stride

    def get_launch_config(self, is_dispatch=True, block_num=-1, rdma_block_num=-1, warp_per_block=-1):
        """(blocks, 0, warps of a block) of the newest call of that kind; before the first, what a call with these numbers asks for."""
        last = self._last_launches.get(is_dispatch)
        if last is not None and block_num <= 0 and warp_per_block <= 0:
            return last.num_blocks, 0, last.num_warps
        asked = self._geometry(block_num, warp_per_block)
        return asked["num_sms"], 0, asked["num_warps"]

    def max_num_tokens_to_recv(self):
        """Rows that dispatch returns: the capacity of this rank."""
        return self._rows

    def max_num_tokens_to_recv_per_rank(self):
        """The share of one source in that capacity."""
        return self._rows // self.config.world_size

    def max_num_tokens_to_send(self):
        """Tokens of all ranks at most."""
        return self.config.world_size * self.config.max_num_inp_token_per_rank

    def max_num_tokens_to_send_per_rank(self):
        """Tokens that one rank may pass."""
        return self.config.max_num_inp_token_per_rank

    def __getattr__(self, name):
        if name in _ABSENT_OF_OP:
            raise AttributeError(f"EpDispatchCombineOp.{name}: {_ABSENT_OF_OP[name]}")
        raise AttributeError(f"EpDispatchCombineOp has no `{name}`")

    def reset(self):
        """Nothing needs resetting."""

    def get_debug_time_buf(self):
        """Not served: Crossdock has a trace of its own."""
        raise NotImplementedError("EpDispatchCombineOp.get_debug_time_buf: use Config(trace_events=...) and Exchange.trace()")


def warmup_jit_kernels(*_, **__):
    """Nothing is compiled at run time."""


def launch_local_expert_count(*_, **__):
    """Not served: it takes raw pointers."""
    raise NotImplementedError("launch_local_expert_count: takes raw pointers of mori.cpp; pass call_local_expert_count=True to dispatch")


def __getattr__(name):
    if name == "dispatch_combine":  # MORI's file of the same names
        import sys

        return sys.modules[__name__]
    raise AttributeError(f"mori.ops.{name}: {_ABSENT.get(name, 'Crossdock does not have it')}")
