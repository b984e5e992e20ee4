// SPDX-License-Identifier: Apache-2.0
// The signals of dispatch. Edge counts carries the row counts, before any row moves. Edge done says that the sender's
// rows have landed.
#pragma once

#include "kernels/common/phase_device.hpp"

namespace crossdock::kernels {

template <class M>
struct DispatchSignals {
  M& m;
  const Call& call;
  const std::uint64_t epoch;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;

  /// Publishes this rank's counts at all ranks. For d < W, the number of ranks, count_for(d) is the number of rows for
  /// rank d; for d = W it is layout::token_cell(). A thread that has seen poison (`failed`) publishes none. The signal
  /// permits peers to overwrite what earlier kernels here have read, so it need not order this kernel's own stores.
  template <class CountFor>
  XD_FN void publish_counts(bool failed, CountFor&& count_for) {
    const int row_cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * row_cells && !failed; i += m.num_threads()) {
      const int p = shape.div_cells(i), d = i - p * row_cells;
      const wire::PeerPtr word =
          call.remote(call.peers.after(p), call.buffer_set.counts_words) + (rank * row_cells + d) * 8;
      word.signal_prior_kernels(m, sync::count_word(epoch, count_for(d)));  // edge counts: signal
    }
  }

  /// Waits for the counts of all ranks and puts them into `matrix`. False: the group has failed.
  XD_FN bool wait_counts(std::uint64_t* matrix, bool failed) {
    const int row_cells = shape.num_ranks + 1;
    const std::uint64_t* words = call.local<std::uint64_t>(call.buffer_set.counts_words);
    bool ok = !failed;
    for (int i = m.thread(); i < shape.num_ranks * row_cells && ok; i += m.num_threads()) {
      const int s = shape.div_cells(i);
      ok = sync::wait_count(m, call.faults, words + i, epoch, s, &matrix[i]);
      if (ok && i == s * row_cells + shape.num_ranks) mark_seen(Phase::wait_counts, s);  // the last word of rank s
    }
    return !m.sync_block_or(!ok);
  }

  /// One warp. A rank that sees the signal also sees all rows of this rank, because arrive_last() has ordered the
  /// stores of all blocks before it.
  XD_FN void signal_done() {
    for (int p = m.lane(); p < shape.num_ranks; p += M::kWidth) {
      const wire::PeerPtr word = call.remote(call.peers.after(p), call.buffer_set.done_words) + rank * 8;
      word.signal(m, epoch);  // edge done: signal
    }
  }

  /// One warp. Waits until the rows of all ranks have landed here. False: the group has failed.
  XD_FN bool wait_done() {
    mark(m, call, epoch, Phase::wait_done, false);
    bool ok = true;
    for (int s = m.lane(); s < shape.num_ranks && ok; s += M::kWidth) {
      const std::uint64_t* word = call.local<std::uint64_t>(call.buffer_set.done_words) + s;
      ok = sync::wait_epoch(m, call.faults, word, epoch, Edge::done, s);  // edge done: wait
      if (ok) mark_seen(Phase::wait_done, s);
    }
    return ok;
  }

 private:
  XD_FN void mark_seen(Phase phase, int peer) { kernels::mark_seen(m, call, epoch, phase, false, peer); }
};

}  // namespace crossdock::kernels
