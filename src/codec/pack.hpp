// SPDX-License-Identifier: Apache-2.0
// WHAT the bytes mean, 16 bytes at a time: a pack of codes to f32 values and back.
//
// A pack has four 32-bit words, a word has kParts codes. A step handles kWordsAtOnce words as one vector. Code p of the
// words of step s is in values[p * kSteps + s], so `values` are not in the order of the row. Only the dtype that
// widened a row can narrow values back to the row's order (docs/adr/0007-order-in-a-pack.md).
#pragma once

#include "codec/number.hpp"
#include "platform/machine.hpp"

namespace crossdock::codec {

using platform::Bytes16;
using platform::Floats;
using platform::Words;

template <Dtype kDtype>
struct Pack {
  static constexpr int kBits = bits_of(kDtype);
  static constexpr int kCount = 128 / kBits;
  static constexpr int kParts = 32 / kBits;
  static constexpr std::uint32_t kMask = kBits == 32 ? ~0u : (1u << (kBits & 31)) - 1;

  static constexpr int kSteps = 4 / platform::kWordsAtOnce;
  static constexpr int kFloats = kParts * kSteps;  ///< number of `Floats` in a widened pack

  XD_FN static void widen(const Bytes16& bytes, Floats* values) {
    XD_UNROLL(8)
    for (int part = 0; part < kParts; ++part) {
      XD_UNROLL(4)
      for (int w = 0; w < kSteps; ++w)
        values[part * kSteps + w] =
            Number<kDtype>::widen(Words(platform::words_at(bytes, w) >> (part * kBits) & kMask));
    }
  }

  XD_FN static Bytes16 narrow(const Floats* values) {
    Words words[kSteps]{};
    XD_UNROLL(8)
    for (int part = 0; part < kParts; ++part) {
      XD_UNROLL(4)
      for (int w = 0; w < kSteps; ++w) words[w] |= Number<kDtype>::narrow(values[part * kSteps + w]) << (part * kBits);
    }
    Bytes16 bytes;
    XD_UNROLL(4)
    for (int w = 0; w < kSteps; ++w) platform::put_words(bytes, w, words[w]);
    return bytes;
  }
};

}  // namespace crossdock::codec
