// SPDX-License-Identifier: Apache-2.0
// WHAT, 16 bytes at a time: a pack of codes to f32 values and back.
//
// `values` are not in the order of the row: part p of the words of step s is values[p * kSteps + s], where a value is
// kWordsAtOnce floats. Narrow values with the Pack that widened them.
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
