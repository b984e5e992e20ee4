// SPDX-License-Identifier: Apache-2.0
#include "problem/trace.hpp"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "command/failures.hpp"
#include "command/text_file.hpp"
#include "crossdock/types.hpp"

namespace crossdock::tools {
namespace {

static_assert(std::endian::native == std::endian::little, "the arrays of a trace are little-endian");

constexpr const char* kFormat = "crossdock-trace";
constexpr int kVersion = 1;
constexpr const char* kFirstLine = "the first line must be a JSON object with \"format\":";
constexpr int kMaxTokens = (1 << 24) - 1, kMaxExperts = 1 << 16;

using nlohmann::json;
using nlohmann::ordered_json;

template <class... Values>
[[noreturn]] void refuse(const std::string& path, fmt::format_string<Values...> why, Values&&... values) {
  throw BadInput("--trace {}: {}", path, fmt::format(why, std::forward<Values>(values)...));
}

/// An integer member of the header, within [low, high].
int member(const std::string& path, const json& value, const std::string& name, int low, int high) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high)
    refuse(path, "the header's `{}` is {}; must be {} to {}", name, value.dump(), low, high);
  return value.get<int>();
}

json header_of(const std::string& path, const std::string& line) {
  json header = json::parse(line, nullptr, false);
  if (!header.is_object() || header.value("format", json()) != kFormat)
    refuse(path, "is no trace: {} \"{}\"", kFirstLine, kFormat);
  if (const json version = header.value("version", json()); version != kVersion)
    refuse(path, "has version {}; this program reads version {}", version.dump(), kVersion);
  return header;
}

Trace shape_of(const std::string& path, const json& header) {
  Trace trace;
  const auto get = [&](const char* name) { return header.value(name, json()); };
  trace.num_experts = member(path, get("experts"), "experts", 1, kMaxExperts);
  trace.top_k = member(path, get("top_k"), "top_k", 1, kMaxTopk);
  const json tokens = get("tokens");
  if (!tokens.is_array() || tokens.empty() || tokens.size() > std::size_t{kMaxRanks})
    refuse(path, "the header's `tokens` is {}; must be a list of 1 to {} numbers, one for each rank", tokens.dump(),
           kMaxRanks);
  for (const json& count : tokens) trace.tokens.push_back(member(path, count, "tokens", 0, kMaxTokens));
  if (trace.num_tokens() == 0) refuse(path, "has no tokens");
  if (const json note = get("note"); note.is_string()) trace.note = note;
  return trace;
}

template <class T>
std::span<const T> part_of(const Trace& trace, const std::vector<T>& values, int rank) {
  const auto before = std::accumulate(trace.tokens.begin(), trace.tokens.begin() + rank, std::size_t{0});
  const auto k = static_cast<std::size_t>(trace.top_k), own = static_cast<std::size_t>(trace.tokens[rank]);
  return std::span(values).subspan(before * k, own * k);
}

}  // namespace

std::int64_t Trace::num_tokens() const { return std::accumulate(tokens.begin(), tokens.end(), std::int64_t{0}); }
std::span<const std::int32_t> Trace::ids_of(int rank) const { return part_of(*this, ids, rank); }
std::span<const float> Trace::weights_of(int rank) const { return part_of(*this, weights, rank); }

Trace read_trace(const std::string& path) {
  const std::string bytes = read_file("--trace", path, std::string::npos);
  const std::size_t line = bytes.find('\n');
  if (line == std::string::npos)
    refuse(path, "is truncated within its first line, or no trace: {} \"{}\"", kFirstLine, kFormat);
  Trace trace = shape_of(path, header_of(path, bytes.substr(0, line)));
  const std::size_t values = static_cast<std::size_t>(trace.num_tokens()) * static_cast<std::size_t>(trace.top_k);
  const std::size_t half = values * sizeof(std::int32_t), present = bytes.size() - line - 1;
  static_assert(sizeof(std::int32_t) == sizeof(float));
  if (present != 2 * half)
    refuse(path, "is {}: {} bytes follow the header, which promises {}", present < 2 * half ? "truncated" : "too long",
           present, 2 * half);
  trace.ids.resize(values);
  trace.weights.resize(values);
  std::memcpy(trace.ids.data(), bytes.data() + line + 1, half);
  std::memcpy(trace.weights.data(), bytes.data() + line + 1 + half, half);
  return trace;
}

void require_recorded(const std::string& flag, int value, const std::string& file, int recorded) {
  if (value != recorded) throw BadInput("{} {}: the trace {} was recorded with {}", flag, value, file, recorded);
}

void require_writable_trace(const std::string& path) {
  const std::filesystem::path file(path), folder = file.has_parent_path() ? file.parent_path() : ".";
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) throw BadInput("--record {}: is a directory", path);
  const bool exists = std::filesystem::exists(file, error);
  if (access(exists ? file.c_str() : folder.c_str(), W_OK) != 0)
    throw BadInput("--record {}: cannot be written: {}", path, std::strerror(errno));
}

void write_trace(const std::string& path, const Trace& trace) {
  const ordered_json header = {{"format", kFormat},    {"version", kVersion},    {"experts", trace.num_experts},
                               {"top_k", trace.top_k}, {"tokens", trace.tokens}, {"note", trace.note}};
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << header.dump(-1, ' ', true, json::error_handler_t::replace) << '\n';
  file.write(reinterpret_cast<const char*>(trace.ids.data()),
             static_cast<std::streamsize>(trace.ids.size() * sizeof(std::int32_t)));
  file.write(reinterpret_cast<const char*>(trace.weights.data()),
             static_cast<std::streamsize>(trace.weights.size() * sizeof(float)));
  file.close();
  if (!file) throw BadInput("--record {}: cannot be written: {}", path, std::strerror(errno ? errno : EIO));
}

}  // namespace crossdock::tools
