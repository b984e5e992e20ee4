// SPDX-License-Identifier: Apache-2.0
// LL packets ("low latency", as in NCCL's LL protocol): 12 bytes of data and a 4-byte flag in one 16-byte store. The
// flag is the tag of the epoch. A reader that sees the flag also sees the data, so a row needs no signal.
// This file: how the lanes of a warp pack, store, wait for and unpack a part of a row.
#pragma once

#include "kernels/common/args.hpp"
#include "layout/slots.hpp"
#include "sync/wait_device.hpp"
#include "types/ll_packet.hpp"

namespace crossdock::kernels {

template <class M>
struct LlPackets {
  using Bytes16 = platform::Bytes16;
  /// A lane's units of a part: 48 bytes of a row ...
  struct Units {
    Bytes16 unit[ll_packet::kUnitsPacked];
  };
  /// ... and the four packets that carry them.
  struct Seen {
    Bytes16 packet[ll_packet::kPacketsOfUnits];
  };
  static constexpr int kUnits = ll_packet::kUnitsPacked * M::kWidth;  // in a part: what a warp packs at once

  M& m;
  const Call& call;
  const std::uint64_t epoch;

  XD_FN static int parts_of(std::int64_t row_bytes) { return ceil_div(static_cast<int>(row_bytes / 16), kUnits); }
  /// Index in the row of this lane's i-th unit of a part.
  XD_FN int unit_at(int part, int i) const { return part * kUnits + i * M::kWidth + m.lane(); }

  /// Slot at rank `peer` into which rank `source` writes its packets of `token`. See layout::ll_slot.
  XD_FN wire::PeerPtr peer_slot(int peer, int source, int token) const {
    return call.remote(peer, call.buffer_set.ll_packets) + first_packet(source, token) * ll_packet::kBytes;
  }
  /// The slot at this rank, from which it reads what `source` has written.
  XD_FN const Bytes16* local_slot(int source, int token) const {
    return call.local<Bytes16>(call.buffer_set.ll_packets) + first_packet(source, token);
  }

  XD_FN Bytes16 packet_of(std::uint32_t a, std::uint32_t b, std::uint32_t c) const { return {{a, b, c, tag()}}; }

  /// Loads this lane's units of a part. Units past the end of the row are zero.
  XD_FN Units load(const std::byte* row, std::int64_t row_bytes, int part) const {
    Units units{};
    XD_UNROLL(3)
    for (int i = 0; i < ll_packet::kUnitsPacked; ++i)
      if (const int u = unit_at(part, i); u < row_bytes / 16)
        units.unit[i] = m.load16_streaming(row + std::int64_t{u} * 16);
    return units;
  }

  /// Stores a lane's 12 words as four packets. The lanes' packets of equal index q are neighbours in memory.
  XD_FN void store(wire::PeerPtr slot, int part, const Units& units) const {
    const auto word = [&](int w) { return units.unit[w / 4].word[w % 4]; };
    const wire::PeerPtr packets = slot + packet_at(part) * ll_packet::kBytes;
    XD_UNROLL(4)
    for (int q = 0; q < ll_packet::kPacketsOfUnits; ++q)
      (packets + q * M::kWidth * ll_packet::kBytes)
          .put16_atomic(m, packet_of(word(3 * q), word(3 * q + 1), word(3 * q + 2)));
  }

  XD_FN std::uint32_t tag() const { return sync::tag_of(epoch); }
  XD_FN bool is_here(const Bytes16& packet) const { return packet.word[ll_packet::kWords] == tag(); }
  XD_FN bool is_here(const Seen& seen) const {
    bool here = true;
    XD_UNROLL(4)
    for (int q = 0; q < ll_packet::kPacketsOfUnits; ++q) here = here && is_here(seen.packet[q]);
    return here;
  }

  /// Loads a lane's packets of a part once, without waiting. All loads are in flight together.
  XD_FN Seen look(const Bytes16* slot, int part) const {
    Seen seen;
    XD_UNROLL(4)
    for (int q = 0; q < ll_packet::kPacketsOfUnits; ++q)
      seen.packet[q] = m.load16_atomic(slot + packet_at(part) + q * M::kWidth);
    return seen;
  }
  /// Waits until a part, or one packet, has arrived from `source`. False: the group has failed.
  XD_FN bool take(const Bytes16* slot, int part, Edge edge, int source, Seen* seen) const {
    return wait(edge, [&](std::uint64_t* other) {
      *seen = look(slot, part);
      *other = sync::epoch_of_tag(seen->packet[0].word[ll_packet::kWords]);
      return is_here(*seen) ? -1 : source;
    });
  }
  XD_FN bool take(const Bytes16* packet, Edge edge, int source, Bytes16* seen) const {
    return wait(edge, [&](std::uint64_t* other) {
      *seen = m.load16_atomic(packet);
      *other = sync::epoch_of_tag(seen->word[ll_packet::kWords]);
      return is_here(*seen) ? -1 : source;
    });
  }
  /// Polls lacking(&other). It returns -1 when all packets have arrived, else a rank whose packets are missing, and
  /// sets `other` to an epoch that the slot holds. False: the group has failed.
  template <class Lacking>
  XD_FN bool wait(Edge edge, Lacking&& lacking) const {
    return sync::wait_for(m, call.faults, sync::epoch_of_tag(tag()), edge, lacking);
  }

  /// Unit i, from the packets that carry it.
  XD_FN static Bytes16 unit_of(const Seen& seen, int i) {
    const auto word = [&](int w) { return seen.packet[w / 3].word[w % 3]; };
    return {{word(4 * i), word(4 * i + 1), word(4 * i + 2), word(4 * i + 3)}};
  }

 private:
  XD_FN std::int64_t first_packet(int source, int token) const {
    return layout::ll_slot(epoch, source, token, call.shape) * ll_packet::per_slot(call.shape);
  }
  /// This lane's first packet of a part, in its slot.
  XD_FN int packet_at(int part) const { return part * ll_packet::kPacketsOfUnits * M::kWidth + m.lane(); }
};

}  // namespace crossdock::kernels
