// SPDX-License-Identifier: Apache-2.0
// Which configs are supported, the sizes that follow from one, and the memory it takes.

#include "crossdock/config.hpp"

#include <sstream>

#include "codec/wire_row.hpp"
#include "crossdock/error.hpp"
#include "layout/slots.hpp"
#include "memory/regions.hpp"
#include "op/config_members.hpp"
#include "op/environment.hpp"
#include "op/shape.hpp"
#include "op/text.hpp"
#include "platform/device.hpp"
#include "sync/status.hpp"

namespace crossdock {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 31;

Support no(const std::string& reason) { return {false, reason}; }

bool is_quantised(const Config& c) { return c.combine_quant != CombineQuant::none; }

std::int64_t worst_rows(const Config& c, int num_ranks) { return std::int64_t{num_ranks} * c.max_tokens_per_rank; }

/// Most rows by expert in layout contiguous: every received row goes to min(k, L) local experts, where L is experts per
/// rank, and every expert has the most padding.
std::int64_t worst_expert_rows(const Config& c, const Shape& s) {
  const std::int64_t experts = s.experts_per_rank, pairs = s.row_capacity * min<std::int64_t>(c.top_k, experts);
  return round_up<std::int64_t>(pairs + experts * (c.alignment - 1), c.alignment);
}

/// A binding may pass a number that is no enumerator.
Support enumerators_supported(const Config& c) {
  const struct {
    const char* name;
    int value;
    std::size_t count;
  } members[] = {{"dispatch_dtype", static_cast<int>(c.dispatch_dtype), std::size(kDtypeNames)},
                 {"combine_dtype", static_cast<int>(c.combine_dtype), std::size(kDtypeNames)},
                 {"combine_quant", static_cast<int>(c.combine_quant), std::size(kCombineQuantNames)},
                 {"layout", static_cast<int>(c.layout), std::size(kLayoutNames)},
                 {"overflow", static_cast<int>(c.overflow), std::size(kOverflowNames)}};
  for (const auto& m : members)
    if (m.value >= static_cast<int>(m.count))
      return no(op::text(m.name, " = ", m.value, "; must be 0 to ", m.count - 1));
  return {};
}

/// Ranges of single members. They come first: what later checks multiply then fits 64 bits.
Support sizes_supported(const Config& c, int num_ranks) {
  using op::text;
  if (num_ranks < 1 || num_ranks > kMaxRanks)
    return no(text("num_ranks = ", num_ranks, "; a group has 1 to ", kMaxRanks, " ranks"));
  if (c.hidden < 1 || c.hidden > (1 << 24)) return no(text("hidden = ", c.hidden, "; must be 1 to 2^24"));
  if (c.num_experts < 1 || c.num_experts > (1 << 20))
    return no(text("num_experts = ", c.num_experts, "; must be 1 to 2^20"));
  if (c.top_k < 1 || c.top_k > kMaxTopk) return no(text("top_k = ", c.top_k, "; must be 1 to ", kMaxTopk));
  if (c.max_tokens_per_rank < 1 || c.max_tokens_per_rank >= (1 << layout::kTokenBits))
    return no(text("max_tokens_per_rank = ", c.max_tokens_per_rank, "; must be 1 to 2^", layout::kTokenBits, " - 1"));
  if (c.scale_bytes < 0 || c.scale_bytes > 65536)
    return no(text("scale_bytes = ", c.scale_bytes, "; must be 0 to 65536"));
  if (c.max_in_flight < 1 || c.max_in_flight > 16)
    return no(text("max_in_flight = ", c.max_in_flight, "; must be 1 to 16"));
  if (c.max_kept_plans < 0 || c.max_kept_plans > 64)
    return no(text("max_kept_plans = ", c.max_kept_plans, "; must be 0 to 64"));
  if (c.trace_events < 0 || c.trace_events > (1 << 20))
    return no(text("trace_events = ", c.trace_events, "; must be 0 to 2^20"));
  for (const auto& [name, value] : {std::pair("num_sms", c.num_sms), std::pair("num_blocks", c.num_blocks),
                                    std::pair("num_warps", c.num_warps), std::pair("splits_per_row", c.splits_per_row)})
    if (value < 0) return no(text(name, " = ", value, "; must be 0 (not chosen) or more"));
  for (const Dtype dtype : {c.dispatch_dtype, c.combine_dtype})
    if (std::int64_t{c.hidden} * bits_of(dtype) % 128 != 0) {
      const NearHidden near = near_hidden(c);
      return no(text("hidden = ", c.hidden, " makes ", name_of(dtype), " rows of ",
                     std::int64_t{c.hidden} * bits_of(dtype) / 8.0,
                     " bytes; rows must be multiples of 16 bytes. Nearest sizes: ", near.below, " and ", near.above));
    }
  return {};
}

/// Capacities and products of members. Kernels index rows by 32 bits with a sign, so every count of rows is below 2^31.
Support capacities_supported(const Config& c, int num_ranks) {
  using op::text;
  const std::int64_t worst = worst_rows(c, num_ranks);
  if (worst >= kMaxRows) return no(text("num_ranks * max_tokens_per_rank = ", worst, " rows; must be below 2^31"));
  if (c.row_capacity != 0 && (c.row_capacity < num_ranks || c.row_capacity > worst))
    return no(text("row_capacity = ", c.row_capacity, "; must be ", num_ranks, " (num_ranks) to ", worst,
                   " (num_ranks * max_tokens_per_rank), or 0 for the worst case"));
  if (c.expert_capacity < 0 || c.expert_capacity >= kMaxRows)
    return no(text("expert_capacity = ", c.expert_capacity, "; must be 0 (the worst case) to 2^31 - 1"));
  if (c.expert_capacity != 0 && c.layout == Layout::token_major)
    return no(text("expert_capacity = ", c.expert_capacity,
                   " with layout token_major, which has no expert rows; set it to 0"));
  const bool aligned =
      c.alignment == 1 || c.alignment == 8 || c.alignment == 16 || c.alignment == 32 || c.alignment == 128;
  if (!aligned) return no(text("alignment = ", c.alignment, "; must be 1, 8, 16, 32 or 128"));
  if (c.alignment != 1 && c.layout != Layout::contiguous)
    return no(
        text("alignment = ", c.alignment, " with layout ", name_of(c.layout), "; only contiguous rows are padded"));
  if (c.zero_padding && c.layout != Layout::contiguous)
    return no(text("zero_padding with layout ", name_of(c.layout), "; only contiguous rows are padded"));
  const Shape shape = op::shape_of(c, num_ranks);
  if (shape.expert_rows >= kMaxRows)
    return no(
        text("the expert buffer would have ", shape.expert_rows, " rows, 2^31 or more; set expert_capacity lower"));
  const std::int64_t all_experts = worst_expert_rows(c, shape);
  if (c.layout == Layout::contiguous && all_experts >= kMaxRows)
    return no(text("the rows by expert could be ", all_experts,
                   ", 2^31 or more, whatever expert_capacity; set row_capacity lower"));
  if (shape.combine_slots >= kMaxRows)
    return no(
        text("the combine slots would be ", shape.combine_slots, ", 2^31 or more; lower max_tokens_per_rank or top_k"));
  return {};
}

/// Combinations of combine_quant, zero_copy, fused and layout that no kernel serves.
Support paths_supported(const Config& c) {
  using op::text;
  if (is_quantised(c) && c.combine_dtype != Dtype::bf16 && c.combine_dtype != Dtype::f16)
    return no(text("combine_quant ", name_of(c.combine_quant), " with combine_dtype ", name_of(c.combine_dtype),
                   "; it carries bf16 and f16 rows only"));
  if (is_quantised(c) && c.zero_copy)
    return no(text("combine_quant ", name_of(c.combine_quant),
                   " with zero_copy; peers read the rows as they are, take combine_quant none"));
  if (is_quantised(c) && c.fused)
    return no(text("combine_quant ", name_of(c.combine_quant),
                   " with fused; the caller writes combine slots in the rows' own type"));
  if (c.fused && c.layout != Layout::token_major)
    return no(text("fused with layout ", name_of(c.layout), "; the fused path takes token_major rows"));
  return {};
}

}  // namespace

Support supports(const Config& config, int num_ranks) try {
  if (Support s = enumerators_supported(config); !s) return s;
  if (Support s = sizes_supported(config, num_ranks); !s) return s;
  if (Support s = paths_supported(config); !s) return s;
  return capacities_supported(config, num_ranks);
} catch (const ConfigError& error) {  // a variable of the environment
  return no(error.what());
}

NearHidden near_hidden(const Config& config) {
  const int bits = std::min(bits_of(config.dispatch_dtype), bits_of(config.combine_dtype));
  const int step = 128 / bits;
  const int below = config.hidden / step * step;
  return {below > 0 ? below : step, below + step};
}

MemoryUsage memory_of(const Config& config, int num_ranks, BackendKind backend) {
  if (const Support s = supports(config, num_ranks); !s) throw ConfigError("memory_of: " + s.reason);
  return op::memory_usage_of(op::shape_of(config, num_ranks), platform::page_bytes_of(backend));
}

namespace op {

Shape shape_of(const Config& c, int num_ranks) {
  Shape s{};
  s.num_ranks = num_ranks;
  s.num_experts = c.num_experts;
  s.experts_per_rank = ceil_div(c.num_experts, num_ranks);
  s.div_experts_per_rank = Divisor::of(s.experts_per_rank);
  s.div_top_k = Divisor::of(c.top_k);
  s.div_cells = Divisor::of(num_ranks + 1);
  s.top_k = c.top_k;
  s.ranks_per_token = min(c.top_k, num_ranks);
  s.max_tokens_per_rank = c.max_tokens_per_rank;
  s.hidden = c.hidden;
  s.scale_bytes = c.scale_bytes;
  s.alignment = c.alignment;
  s.max_in_flight = c.max_in_flight;
  s.num_plans = c.max_in_flight + c.max_kept_plans;
  s.trace_events = c.trace_events;
  s.layout = c.layout;
  s.zero_copy = c.zero_copy;
  s.fused = c.fused;
  s.combine_topk_weights = c.combine_topk_weights;
  s.zero_padding = c.zero_padding;
  s.overflow_is_error = c.overflow == Overflow::error;
  s.row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  s.combine_row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  s.wire_row_bytes = codec::wire_row_bytes(c.combine_dtype, c.combine_quant, c.hidden);
  s.row_capacity = c.row_capacity ? c.row_capacity : worst_rows(c, num_ranks);
  const std::int64_t experts = s.experts_per_rank;
  if (c.layout == Layout::expert_major) {
    s.expert_capacity = c.expert_capacity ? c.expert_capacity : s.row_capacity;
    s.expert_rows = experts * s.expert_capacity;
  } else if (c.layout == Layout::contiguous) {
    s.expert_capacity = c.expert_capacity ? c.expert_capacity : worst_expert_rows(c, s);
    s.expert_rows = s.expert_capacity;
  }
  s.combine_slots = std::int64_t{c.max_tokens_per_rank} * (c.fused ? c.top_k : s.ranks_per_token);
  // LL packets carry whole 4-byte words, and rows by token only.
  const bool whole_words = c.scale_bytes % 4 == 0;
  if (c.layout == Layout::token_major && whole_words && c.max_tokens_per_rank <= environment_packet_tokens()) {
    s.combine_uses_ll = ll_packet::carries(c.combine_dtype, c.combine_quant);
    s.ll_packets_per_row = ll_packet::per_row(s.combine_uses_ll ? max(s.row_bytes, s.combine_row_bytes) : s.row_bytes);
  }
  return s;
}

std::string difference(const Config& mine, const Config& theirs) {
#define XD_COMPARE(member)          \
  if (mine.member != theirs.member) \
    return text(#member, " = ", show(mine.member), " here and ", show(theirs.member), " there");
  XD_CONFIG_MEMBERS(XD_COMPARE, XD_COMPARE)
#undef XD_COMPARE
  return "";
}

MemoryUsage memory_usage_of(const Shape& shape, std::uint64_t page_bytes) {
  MemoryUsage usage;
  std::uint64_t listed = 0;
  // Visits the declarations that arena_of() has visited, so the list has every region. What is left is rounding.
  const auto charge = [&](std::uint64_t copies) {
    return
        [&, copies](const char* name, std::uint64_t&, std::uint64_t element, std::uint64_t count, const char* content) {
          const std::uint64_t bytes = copies * element * count;
          if (bytes) usage.regions.push_back({name, content, bytes});
          listed += bytes;
        };
  };
  memory::Arena arena = memory::arena_of(shape);
  memory::BufferSetRegions::visit(arena.buffer_set, shape, charge(shape.max_in_flight));
  memory::PlanRegions::visit(arena.plan, shape, charge(shape.num_plans));
  const std::uint64_t allocated = round_up(arena.total_bytes, page_bytes);
  usage.regions.push_back({"rounding",
                           text("regions to ", memory::kRegionAlign, " bytes, the whole to pages of ", page_bytes),
                           allocated - listed});
  usage.regions.push_back(
      {"host.report", "reports that the host reads without synchronising; own kernels", kReportBytes});
  usage.total_bytes = allocated + kReportBytes;
  return usage;
}

}  // namespace op
}  // namespace crossdock
