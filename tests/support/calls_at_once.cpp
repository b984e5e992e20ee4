// SPDX-License-Identifier: Apache-2.0
// A launch table whose launches without a stream run on a stream of the calling thread and are waited for.
#include <utility>

#include "op/exchange_state.hpp"
#include "support/cuda.hpp"
#include "support/fiber_launch.hpp"
#include "support/stream.hpp"

namespace crossdock::testing {

#ifdef CROSSDOCK_WITH_CUDA
namespace {

using kernels::LaunchTable;

const LaunchTable& plain() { return kernels::launches_of(BackendKind::cuda); }

template <class Args>
void launch(kernels::Launch<Args> plain_launch, platform::Geometry geometry, StreamHandle stream, const Args& args) {
  plain_launch(geometry, stream ? stream : own_stream(), args);
  if (!stream) check(cudaStreamSynchronize(own_stream()));
}

template <std::size_t kDtype, std::size_t kWire, std::size_t kByExpert>
void launch_combine(platform::Geometry geometry, StreamHandle stream, const kernels::CombineArgs& args) {
  launch(plain().combine[kDtype][kWire][kByExpert], geometry, stream, args);
}

template <std::size_t kDtype, std::size_t kWire>
void wrap_combines(LaunchTable& table) {
  if (!plain().combine[kDtype][kWire][0]) return;
  table.combine[kDtype][kWire][0] = launch_combine<kDtype, kWire, 0>;
  table.combine[kDtype][kWire][1] = launch_combine<kDtype, kWire, 1>;
}

LaunchTable wrapped() {
  LaunchTable table = plain();
  table.dispatch = [](platform::Geometry g, StreamHandle s, const kernels::DispatchArgs& a) {
    launch(plain().dispatch, g, s, a);
  };
  table.expert_counts = [](platform::Geometry g, StreamHandle s, const kernels::ExpertRowsArgs& a) {
    launch(plain().expert_counts, g, s, a);
  };
  table.expert_rows = [](platform::Geometry g, StreamHandle s, const kernels::ExpertRowsArgs& a) {
    launch(plain().expert_rows, g, s, a);
  };
  [&]<std::size_t... kCell>(std::index_sequence<kCell...>) {
    (wrap_combines<kCell / kernels::kNumWires, kCell % kernels::kNumWires>(table), ...);
  }
  (std::make_index_sequence<kernels::kNumDtypes * kernels::kNumWires>());
  return table;
}

}  // namespace

void run_calls_at_once(Exchange& exchange) {
  static const LaunchTable table = wrapped();
  detail::ExchangeState& state = state_of(exchange);
  if (state.group->device().kind() != BackendKind::cuda) return;
  state.launches = &table;
  state.default_stream_is_shared = false;  // no launch of the table uses it
}
#else
void run_calls_at_once(Exchange&) {}
#endif

}  // namespace crossdock::testing
