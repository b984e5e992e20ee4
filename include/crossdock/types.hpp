// SPDX-License-Identifier: Apache-2.0
// Enumerations made from lists.h with their names, and the plain values that calls take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "crossdock/lists.h"

/// Marks the exported symbols of the shared library.
#define XD_PUBLIC __attribute__((visibility("default")))

namespace crossdock {

#define XD_ENUMERATOR(name, ...) name,
enum class Dtype : std::uint8_t { XD_DTYPES(XD_ENUMERATOR) };
enum class Layout : std::uint8_t { XD_LAYOUTS(XD_ENUMERATOR) };
enum class Path : std::uint8_t { XD_PATHS(XD_ENUMERATOR) };
enum class CombineQuant : std::uint8_t { XD_COMBINE_QUANTS(XD_ENUMERATOR) };
enum class Overflow : std::uint8_t { XD_OVERFLOWS(XD_ENUMERATOR) };
enum class StatusCode : std::uint8_t { XD_STATUSES(XD_ENUMERATOR) };
enum class BackendKind : std::uint8_t { XD_BACKENDS(XD_ENUMERATOR) };
enum class Edge : std::uint8_t { XD_EDGES(XD_ENUMERATOR) };
enum class Phase : std::uint8_t { XD_PHASES(XD_ENUMERATOR) };
enum class TuningSource : std::uint8_t { XD_TUNING_SOURCES(XD_ENUMERATOR) };
#undef XD_ENUMERATOR

inline constexpr int kMaxRanks = XD_MAX_RANKS;
inline constexpr int kMaxTopk = XD_MAX_TOPK;

#define XD_NAME(name, ...) #name,
inline constexpr std::string_view kDtypeNames[] = {XD_DTYPES(XD_NAME)};
inline constexpr std::string_view kLayoutNames[] = {XD_LAYOUTS(XD_NAME)};
inline constexpr std::string_view kPathNames[] = {XD_PATHS(XD_NAME)};
inline constexpr std::string_view kCombineQuantNames[] = {XD_COMBINE_QUANTS(XD_NAME)};
inline constexpr std::string_view kOverflowNames[] = {XD_OVERFLOWS(XD_NAME)};
inline constexpr std::string_view kStatusNames[] = {XD_STATUSES(XD_NAME)};
inline constexpr std::string_view kBackendNames[] = {XD_BACKENDS(XD_NAME)};
inline constexpr std::string_view kEdgeNames[] = {XD_EDGES(XD_NAME)};
inline constexpr std::string_view kPhaseNames[] = {XD_PHASES(XD_NAME)};
inline constexpr std::string_view kTuningSourceNames[] = {XD_TUNING_SOURCES(XD_NAME)};
#undef XD_NAME

constexpr std::string_view name_of(Dtype v) { return kDtypeNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(Layout v) { return kLayoutNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(Path v) { return kPathNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(CombineQuant v) { return kCombineQuantNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(Overflow v) { return kOverflowNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(StatusCode v) { return kStatusNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(BackendKind v) { return kBackendNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(Phase v) { return kPhaseNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(TuningSource v) { return kTuningSourceNames[static_cast<int>(v)]; }
constexpr std::string_view name_of(Edge v) { return kEdgeNames[static_cast<int>(v)]; }

#define XD_BITS(name, NAME, bits, ...) bits,
inline constexpr int kDtypeBits[] = {XD_DTYPES(XD_BITS)};
#undef XD_BITS

/// Bits of one element of `dtype`.
constexpr int bits_of(Dtype dtype) { return kDtypeBits[static_cast<int>(dtype)]; }

/// Bytes of a row of `hidden` elements of `dtype` (fp4 has two elements per byte, so `hidden` must be even).
constexpr std::int64_t row_bytes_of(Dtype dtype, std::int64_t hidden) { return hidden * bits_of(dtype) / 8; }

/// Origin of a received row. Rows past Counts::num_rows, and padding, have rank = token = -1.
struct RowSource {
  std::int32_t rank;          ///< home rank of the token
  std::int32_t token;         ///< index of the token in that rank's call
  std::int32_t combine_slot;  ///< internal; no index into Received::combine_slots()
  std::int32_t reserved;
};

/// A stream: cudaStream_t, hipStream_t, or on the CPU `CpuStream::handle()`. nullptr is the default stream; on the CPU
/// the call then runs in the calling thread.
using StreamHandle = void*;

}  // namespace crossdock
