// SPDX-License-Identifier: Apache-2.0
// Words and Floats: the 32-bit words that a thread handles in one instruction. On a GPU that is one word. On the CPU it
// is a vector of four, because g++ does not vectorise the loops over words by itself (bench/ladder/cpu.md). Operators
// and the functions below accept scalars and vectors alike, so a body is written once.
#pragma once

#include <bit>
#include <cstdint>

#include "platform/machine.hpp"

namespace crossdock::platform {

#if defined(__CUDACC__) || defined(__HIP__)
using Words = std::uint32_t;
using Floats = float;
#else
using Words = std::uint32_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));
#endif
inline constexpr int kWordsAtOnce = sizeof(Words) / 4;

// Bit casts, for scalars and for Words.
XD_FN constexpr std::uint32_t bits_of_float(float v) { return std::bit_cast<std::uint32_t>(v); }
XD_FN constexpr float float_of_bits(std::uint32_t v) { return std::bit_cast<float>(v); }

/// a where the condition holds, else b.
template <class Condition, class T>
XD_FN constexpr T select(Condition condition, T a, T b) {
  return condition ? a : b;
}
/// a() where the condition holds, else b(). A scalar condition calls only one of the two.
template <class A, class B>
XD_FN constexpr auto branch(bool condition, A a, B b) {
  return condition ? a() : b();
}
/// `number` in every element.
template <class W>
XD_FN constexpr W each(std::uint32_t number) {
  return W{} + number;
}
/// a < b, for words below 2^31.
XD_FN constexpr bool below(std::uint32_t a, std::uint32_t b) { return a < b; }
/// A small whole number as f32.
XD_FN constexpr float float_of_number(std::uint32_t number) { return static_cast<float>(number); }
/// The largest element.
XD_FN constexpr float largest_of(float v) { return v; }

#if defined(__CUDACC__) || defined(__HIP__)
/// kWordsAtOnce words of `bytes`, starting at word index * kWordsAtOnce.
XD_FN Words words_at(const Bytes16& bytes, int index) { return bytes.word[index]; }
XD_FN void put_words(Bytes16& bytes, int index, Words words) { bytes.word[index] = words; }
#else
namespace detail {
using Ints = std::int32_t __attribute__((vector_size(16)));  // SSE2 compares signed words only
}
XD_FN Words bits_of_float(Floats v) { return std::bit_cast<Words>(v); }
XD_FN Floats float_of_bits(Words v) { return std::bit_cast<Floats>(v); }
/// kWordsAtOnce words of `bytes`, starting at word index * kWordsAtOnce.
XD_FN Words words_at(const Bytes16& bytes, int) { return std::bit_cast<Words>(bytes); }
XD_FN void put_words(Bytes16& bytes, int, Words words) { bytes = std::bit_cast<Bytes16>(words); }
XD_FN detail::Ints below(Words a, Words b) { return std::bit_cast<detail::Ints>(a) < std::bit_cast<detail::Ints>(b); }
XD_FN Floats float_of_number(Words number) {
  return __builtin_convertvector(std::bit_cast<detail::Ints>(number), Floats);
}
template <class A, class B>
XD_FN auto branch(detail::Ints condition, A a, B b) {
  return condition ? a() : b();
}
XD_FN float largest_of(Floats v) {
  const float a = v[0] < v[1] ? v[1] : v[0], b = v[2] < v[3] ? v[3] : v[2];
  return a < b ? b : a;
}
#endif

}  // namespace crossdock::platform
