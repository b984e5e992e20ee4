// SPDX-License-Identifier: Apache-2.0
// Which experts a token goes to, and with which weights.
#pragma once

#include <cstdint>
#include <string_view>

#include "layer/model.hpp"

/* name, what it does */
#define XD_ROUTERS(X)                                                                                      \
  X(deepseek, "sigmoid scores, a bias on the choice, experts of the best groups only, weights normalised") \
  X(mixtral, "softmax over all experts, top-k, weights normalised")

namespace crossdock::tools {

#define XD_ROUTER(name, ...) name,
enum class RouterKind : std::uint8_t { XD_ROUTERS(XD_ROUTER) };
#undef XD_ROUTER
#define XD_ROUTER(name, ...) #name,
inline constexpr std::string_view kRouterNames[] = {XD_ROUTERS(XD_ROUTER)};
#undef XD_ROUTER

struct RouterShape {
  RouterKind kind = RouterKind::deepseek;
  int top_k = 0;
  int num_groups = 0;           ///< deepseek: groups of E / num_groups experts
  int top_groups = 0;           ///< deepseek: groups that a token may use
  float scaling_factor = 2.5f;  ///< deepseek: all weights are multiplied by it
};

/// Fills in what is 0: up to 8 groups that divide E, half of them usable or as many as k needs. Throws BadInput if the
/// groups do not divide E, or the usable ones hold fewer than k experts.
RouterShape checked_router(RouterShape shape, int num_experts);

/// Writes k ids and k weights of a token from its E logits, best first; equal scores go by the lower id.
void route_token(const RouterShape& shape, const Model& model, const float* logits, std::int32_t* ids, float* weights);

}  // namespace crossdock::tools
