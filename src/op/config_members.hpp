// SPDX-License-Identifier: Apache-2.0
// Every member of Config, in its order. What takes a config apart walks this list; what each member means stands in
// crossdock/config.hpp alone.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <utility>

#include "crossdock/config.hpp"

/* X(member); those that xd_config has not go to X_CPP_ONLY. */
#define XD_CONFIG_MEMBERS(X, X_CPP_ONLY) \
  X(hidden)                              \
  X(num_experts)                         \
  X(top_k)                               \
  X(max_tokens)                          \
  X(dispatch_dtype)                      \
  X(combine_dtype)                       \
  X(combine_wire)                        \
  X(scale_bytes)                         \
  X(layout)                              \
  X(row_capacity)                        \
  X(expert_capacity)                     \
  X(alignment)                           \
  X(zero_padding)                        \
  X(overflow)                            \
  X(zero_copy)                           \
  X(fused)                               \
  X(combine_weights)                     \
  X(in_flight)                           \
  X(kept_plans)                          \
  X_CPP_ONLY(trace_events)               \
  X(num_sms)                             \
  X(num_blocks)                          \
  X(num_warps)                           \
  X(pieces)

namespace crossdock::op {

/// What a member may be initialised with.
struct AnyValue {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor): braces convert to members by implicit conversions only
};

/// Whether Config has a member for each of `sizeof...(kIdx)` values.
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
