// SPDX-License-Identifier: Apache-2.0
// WHAT, 16 bytes at a time: a pack of codes to f32 values and back.
//
// The order of values is a private matter of the pack: part p of word w is value p * 4 + w, so that a machine widens
// four words at once. Whoever widens with a pack narrows with the same.
#pragma once

#include "codec/number.hpp"
#include "platform/machine.hpp"

namespace crossdock::codec {

using platform::Bytes16;

template <Dtype kDtype>
struct Pack {
  static constexpr int kBits = bits_of(kDtype);
  static constexpr int kCount = 128 / kBits;
  static constexpr int kParts = 32 / kBits;
  static constexpr std::uint32_t kMask = kBits == 32 ? ~0u : (1u << (kBits & 31)) - 1;

  XD_FN static constexpr void widen(const Bytes16& bytes, float* values) {
    XD_UNROLL(8)
    for (int part = 0; part < kParts; ++part) {
      XD_UNROLL(4)
      for (int w = 0; w < 4; ++w)
        values[part * 4 + w] = Number<kDtype>::widen(bytes.word[w] >> (part * kBits) & kMask);
    }
  }

  XD_FN static constexpr Bytes16 narrow(const float* values) {
    Bytes16 bytes{};
    XD_UNROLL(8)
    for (int part = 0; part < kParts; ++part) {
      XD_UNROLL(4)
      for (int w = 0; w < 4; ++w) bytes.word[w] |= Number<kDtype>::narrow(values[part * 4 + w]) << (part * kBits);
    }
    return bytes;
  }
};

}  // namespace crossdock::codec
