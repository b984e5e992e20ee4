// SPDX-License-Identifier: Apache-2.0
// All members of Config, in the order of their declaration. Code that treats every member alike expands this list.
// crossdock/config.hpp documents the members.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <utility>

#include "crossdock/config.hpp"

/* X(member) for each member that xd_config has too, X_CPP_ONLY(member) for the others. */
#define XD_CONFIG_MEMBERS(X, X_CPP_ONLY) \
  X(hidden)                              \
  X(num_experts)                         \
  X(top_k)                               \
  X(max_tokens_per_rank)                 \
  X(dispatch_dtype)                      \
  X(combine_dtype)                       \
  X(combine_quant)                       \
  X(scale_bytes)                         \
  X(layout)                              \
  X(row_capacity)                        \
  X(expert_capacity)                     \
  X(alignment)                           \
  X(zero_padding)                        \
  X(overflow)                            \
  X(zero_copy)                           \
  X(fused)                               \
  X(combine_topk_weights)                \
  X(max_in_flight)                       \
  X(max_kept_plans)                      \
  X_CPP_ONLY(trace_events)               \
  X(num_sms)                             \
  X(num_blocks)                          \
  X(num_warps)                           \
  X(splits_per_row)

namespace crossdock::op {

/// Converts to any type, so it can initialise any member. Only for requires-expressions: it has no definition.
struct AnyValue {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor): braces convert to members by implicit conversions only
};

/// Whether Config has at least `sizeof...(kIdx)` members.
template <std::size_t... kIdx>
constexpr bool config_takes(std::index_sequence<kIdx...>) {
  return requires { Config{(static_cast<void>(kIdx), AnyValue{})...}; };
}

#define XD_ONE(member) 1,
inline constexpr std::size_t kNumConfigMembers = std::initializer_list<int>{XD_CONFIG_MEMBERS(XD_ONE, XD_ONE)}.size();
#undef XD_ONE
static_assert(config_takes(std::make_index_sequence<kNumConfigMembers>{}) &&
                  !config_takes(std::make_index_sequence<kNumConfigMembers + 1>{}),
              "XD_CONFIG_MEMBERS must list every member of Config: docs/howto/add-a-config-member.md");

}  // namespace crossdock::op
