// SPDX-License-Identifier: Apache-2.0
// A launch table whose launches without a stream run on a stream of the calling thread and are waited for.
#include <utility>

#include "op/exchange_state.hpp"
#include "support/fiber_launch.hpp"
#include "support/machine.hpp"
#include "support/stream.hpp"

namespace crossdock::testing {

namespace {

using kernels::LaunchTable;

template <BackendKind kKind>
const LaunchTable& plain() {
  return kernels::launches_of(kKind);
}

template <BackendKind kKind, class Args>
void launch(kernels::Launch<Args> plain_launch, platform::Geometry geometry, StreamHandle stream, const Args& args) {
  const Machine& machine = machine_of(kKind);
  plain_launch(geometry, stream ? stream : machine.own_stream(), args);
  if (!stream) machine.synchronize(nullptr);
}

template <BackendKind kKind, std::size_t kDtype, std::size_t kQuant, std::size_t kByExpert>
void launch_combine(platform::Geometry geometry, StreamHandle stream, const kernels::CombineArgs& args) {
  launch<kKind>(plain<kKind>().combine[kDtype][kQuant][kByExpert], geometry, stream, args);
}

template <BackendKind kKind, std::size_t kDtype, std::size_t kQuant>
void wrap_combines(LaunchTable& table) {
  if (!plain<kKind>().combine[kDtype][kQuant][0]) return;
  table.combine[kDtype][kQuant][0] = launch_combine<kKind, kDtype, kQuant, 0>;
  table.combine[kDtype][kQuant][1] = launch_combine<kKind, kDtype, kQuant, 1>;
}

template <BackendKind kKind>
LaunchTable wrapped() {
  LaunchTable table = plain<kKind>();
  table.dispatch = [](platform::Geometry g, StreamHandle s, const kernels::DispatchArgs& a) {
    launch<kKind>(plain<kKind>().dispatch, g, s, a);
  };
  table.expert_rows = [](platform::Geometry g, StreamHandle s, const kernels::ExpertRowsArgs& a) {
    launch<kKind>(plain<kKind>().expert_rows, g, s, a);
  };
  [&]<std::size_t... kCell>(std::index_sequence<kCell...>) {
    (wrap_combines<kKind, kCell / kernels::kNumCombineQuants, kCell % kernels::kNumCombineQuants>(table), ...);
  }
  (std::make_index_sequence<kernels::kNumDtypes * kernels::kNumCombineQuants>());
  return table;
}

template <BackendKind kKind>
const LaunchTable& table() {
  static const LaunchTable made = wrapped<kKind>();
  return made;
}

}  // namespace

void run_calls_at_once(Exchange& exchange) {
  detail::ExchangeState& state = state_of(exchange);
  const BackendKind kind = state.group->device().kind();
  if (kind == BackendKind::cpu) return;
  state.launches = kind == BackendKind::cuda ? &table<BackendKind::cuda>() : &table<BackendKind::hip>();
  state.default_stream_is_shared = false;  // no launch of the table uses it
}

}  // namespace crossdock::testing
