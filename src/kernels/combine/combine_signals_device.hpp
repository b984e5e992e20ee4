// SPDX-License-Identifier: Apache-2.0
// The signals of combine. A word of edge enter or ready carries the epoch and the sender's combine mode: pull, fused,
// with weights. All ranks must combine in the same mode.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "layout/slots.hpp"

namespace crossdock::kernels {

/// T of this rank in the dispatch that wrote the plan.
XD_FN std::int64_t num_planned_tokens(const Call& call) {
  return layout::CountMatrix{call.local<std::uint64_t>(call.plan.matrix), call.shape.num_ranks}.tokens(call.peers.rank);
}

template <class M>
struct CombineSignals {
  M& m;
  const CombineArgs& args;
  const std::uint64_t epoch;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;

  XD_FN std::uint64_t mode() const {
    return (args.source == Source::peers ? sync::kPullsRows : 0) |
           (args.source == Source::fused ? sync::kFusedRows : 0) | (args.combine_topk_weights ? sync::kWithWeights : 0);
  }

  /// Signals all ranks, this one included, in their words at `words`. A thread that has seen poison (`failed`) does
  /// not. `this_kernel`: releases the stores of this kernel too, not only those of earlier ones.
  XD_FN void signal(std::uint64_t words, bool failed, bool this_kernel) {
    for (int p = m.thread(); p < shape.num_ranks && !failed; p += m.num_threads()) {
      const wire::PeerPtr to = call.remote(call.peers.after(p), words) + rank * 8;
      const std::uint64_t word = sync::combine_mode_word(epoch, mode());
      this_kernel ? to.signal(m, word) : to.signal_prior_kernels(m, word);
    }
  }

  /// Waits for the words of all ranks. False: the group has failed, or a rank combines in another mode. A word of a
  /// later epoch ends the wait too; its sender has compared the modes of this one already.
  XD_FN bool wait(std::uint64_t words, bool failed, Edge edge, Phase phase) {
    bool ok = !failed;
    for (int s = m.thread(); s < shape.num_ranks && ok; s += m.num_threads()) {
      const std::uint64_t* from = call.local<std::uint64_t>(words) + s;
      std::uint64_t word = 0;
      ok = sync::wait(
          m, call.faults, from, epoch, edge, s, [](std::uint64_t w) { return sync::epoch_of_combine_mode_word(w); },
          &word);
      if (ok) mark_seen(m, call, epoch, phase, true, s);
      if (!ok || sync::epoch_of_combine_mode_word(word) != epoch || sync::combine_mode_of(word) == mode()) continue;
      sync::fail(m, call.faults, sync::Poison{StatusCode::usage, edge, rank, s},
                 {epoch, epoch, mode(), sync::combine_mode_of(word)});
      ok = false;
    }
    return !m.sync_block_or(!ok);
  }
};

}  // namespace crossdock::kernels
