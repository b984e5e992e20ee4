// SPDX-License-Identifier: Apache-2.0
#include "support/device_steps.hpp"

#include "support/machine.hpp"

namespace crossdock::testing {
namespace {

void enqueue(StepKind kind, StreamHandle stream, const Step& step) {
  machine_of(backend_of_tests()).step(kind, stream, step);
}
Turn* of(const Turn* turn) { return const_cast<Turn*>(turn); }

}  // namespace

void enqueue_next_turn(StreamHandle stream, Turn* turn) { enqueue(StepKind::next_turn, stream, {.turn = turn}); }

void enqueue_choose(StreamHandle stream, const Turn* turn, void* to, const Versions& from) {
  enqueue(StepKind::choose, stream, {.turn = of(turn), .words = static_cast<std::uint32_t*>(to), .versions = from});
}

void enqueue_compare(StreamHandle stream, const Turn* turn, const void* is, const Versions& should, int what,
                     Difference* difference) {
  auto* words = static_cast<std::uint32_t*>(const_cast<void*>(is));
  enqueue(StepKind::compare, stream,
          {.turn = of(turn), .words = words, .versions = should, .difference = difference, .what = what});
}

void enqueue_delay(StreamHandle stream, const Turn* turn, int rank, int most_us) {
  enqueue(StepKind::delay, stream, {.turn = of(turn), .rank = rank, .us = most_us});
}

}  // namespace crossdock::testing
