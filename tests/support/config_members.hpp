// SPDX-License-Identifier: Apache-2.0
// Every member of Config by name, with a change that leaves small_case().config legal. A test compares the names with the
// header, so that a new member cannot be forgotten.
#pragma once

#include "crossdock/config.hpp"

namespace crossdock::testing {

struct ConfigMember {
  const char* name;
  void (*change)(Config&);
};

inline constexpr ConfigMember kConfigMembers[] = {
    {"hidden", [](Config& c) { c.hidden += 64; }},
    {"num_experts", [](Config& c) { c.num_experts += 1; }},
    {"top_k", [](Config& c) { c.top_k += 1; }},
    {"max_tokens_per_rank", [](Config& c) { c.max_tokens_per_rank += 1; }},
    {"dispatch_dtype", [](Config& c) { c.dispatch_dtype = Dtype::f16; }},
    {"combine_dtype", [](Config& c) { c.combine_dtype = Dtype::f32; }},
    {"combine_quant", [](Config& c) { c.combine_quant = CombineQuant::fp8_blockwise; }},
    {"scale_bytes", [](Config& c) { c.scale_bytes += 4; }},
    {"layout",
     [](Config& c) { c.layout = c.layout == Layout::contiguous ? Layout::expert_major : Layout::contiguous; }},
    {"row_capacity", [](Config& c) { c.row_capacity = 9; }},
    {"expert_capacity", [](Config& c) { c.layout = Layout::contiguous, c.expert_capacity = 5; }},
    {"alignment", [](Config& c) { c.layout = Layout::contiguous, c.alignment = 16; }},
    {"zero_padding", [](Config& c) { c.layout = Layout::contiguous, c.zero_padding = true; }},
    {"overflow", [](Config& c) { c.overflow = Overflow::error; }},
    {"zero_copy", [](Config& c) { c.zero_copy = true; }},
    {"fused", [](Config& c) { c.fused = true; }},
    {"combine_topk_weights", [](Config& c) { c.combine_topk_weights = true; }},
    {"max_in_flight", [](Config& c) { c.max_in_flight = 2; }},
    {"max_kept_plans", [](Config& c) { c.max_kept_plans = 0; }},
    {"trace_events", [](Config& c) { c.trace_events = 16; }},
    {"num_sms", [](Config& c) { c.num_sms = 3; }},
    {"num_blocks", [](Config& c) { c.num_blocks = 2; }},
    {"num_warps", [](Config& c) { c.num_warps = 5; }},
    {"splits_per_row", [](Config& c) { c.splits_per_row = 7; }},
};

/// Members that take effect in contiguous layout only are compared with a base that has it.
inline Config base_of(const ConfigMember& member, Config base) {
  Config changed = base;
  member.change(changed);
  if (changed.layout != base.layout && std::string_view(member.name) != "layout") base.layout = changed.layout;
  return base;
}

}  // namespace crossdock::testing
