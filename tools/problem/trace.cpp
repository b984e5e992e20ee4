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
#include "crossdock/types.hpp"

namespace crossdock::tools {
namespace {

static_assert(std::endian::native == std::endian::little, "the arrays of a trace are little-endian");

constexpr const char* kFormat = "crossdock-trace";
constexpr int kVersion = 1;
constexpr std::size_t kLongestHeader = 1 << 16;
constexpr int kMaxTokens = (1 << 24) - 1, kMaxExperts = 1 << 16;

const std::string kFirstLine = std::string("the first line must be a JSON object with \"format\": \"") + kFormat + "\"";

using nlohmann::json;
using nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw BadInput("--trace " + path + ": " + why);
}

/// An integer member of the header, within [low, high].
int member(const std::string& path, const json& value, const std::string& name, int low, int high) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high)
    refuse(path, "the header's `" + name + "` is " + value.dump() + "; must be " + std::to_string(low) + " to " +
                     std::to_string(high));
  return value.get<int>();
}

json header_of(const std::string& path, std::ifstream& file) {
  std::string line(kLongestHeader, '\0');
  file.getline(line.data(), static_cast<std::streamsize>(line.size()));
  if (file.eof()) refuse(path, "is truncated within its first line, or no trace: " + kFirstLine);
  line.resize(std::strlen(line.c_str()));
  const json header = json::parse(line, nullptr, false);
  if (!header.is_object() || header.value("format", json()) != kFormat) refuse(path, "is no trace: " + kFirstLine);
  if (header.value("version", json()) != kVersion)
    refuse(path, "has version " + header.value("version", json()).dump() + "; this program reads version " +
                     std::to_string(kVersion));
  return header;
}

Trace shape_of(const std::string& path, const json& header) {
  Trace trace;
  const auto get = [&](const char* name) { return header.value(name, json()); };
  trace.num_experts = member(path, get("experts"), "experts", 1, kMaxExperts);
  trace.top_k = member(path, get("top_k"), "top_k", 1, kMaxTopk);
  const json tokens = get("tokens");
  if (!tokens.is_array() || tokens.empty() || tokens.size() > std::size_t{kMaxRanks})
    refuse(path, "the header's `tokens` is " + tokens.dump() + "; must be a list of 1 to " + std::to_string(kMaxRanks) +
                     " numbers, one for each rank");
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
  std::error_code error;
  if (!std::filesystem::exists(path, error)) refuse(path, "no such file");
  if (std::filesystem::is_directory(path, error)) refuse(path, "is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(path, std::string("cannot be read: ") + std::strerror(errno ? errno : EIO));
  if (file.peek() == std::ifstream::traits_type::eof()) refuse(path, "is empty");
  const json header = header_of(path, file);
  Trace trace = shape_of(path, header);

  const auto begin = static_cast<std::uint64_t>(file.tellg());
  const auto present = static_cast<std::uint64_t>(file.seekg(0, std::ios::end).tellg()) - begin;
  const std::uint64_t values = static_cast<std::uint64_t>(trace.num_tokens()) * static_cast<std::uint64_t>(trace.top_k);
  const std::uint64_t wanted = values * (sizeof(std::int32_t) + sizeof(float));
  if (present != wanted)
    refuse(path, std::string(present < wanted ? "is truncated: " : "is too long: ") + std::to_string(present) +
                     " bytes follow the header, which promises " + std::to_string(wanted));
  trace.ids.resize(values);
  trace.weights.resize(values);
  file.seekg(static_cast<std::streamoff>(begin));
  file.read(reinterpret_cast<char*>(trace.ids.data()), static_cast<std::streamsize>(values * sizeof(std::int32_t)));
  file.read(reinterpret_cast<char*>(trace.weights.data()), static_cast<std::streamsize>(values * sizeof(float)));
  if (!file) refuse(path, "cannot be read to its end");
  return trace;
}

void require_recorded(const std::string& flag, int value, const std::string& file, int recorded) {
  if (value != recorded)
    throw BadInput(flag + " " + std::to_string(value) + ": the trace " + file + " was recorded with " +
                   std::to_string(recorded));
}

void require_writable_trace(const std::string& path) {
  const std::filesystem::path file(path), folder = file.has_parent_path() ? file.parent_path() : ".";
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) throw BadInput("--record " + path + ": is a directory");
  const bool exists = std::filesystem::exists(file, error);
  if (access(exists ? file.c_str() : folder.c_str(), W_OK) != 0)
    throw BadInput("--record " + path + ": cannot be written: " + std::strerror(errno));
}

void write_trace(const std::string& path, const Trace& trace) {
  ordered_json header;
  header["format"] = kFormat;
  header["version"] = kVersion;
  header["experts"] = trace.num_experts;
  header["top_k"] = trace.top_k;
  header["tokens"] = trace.tokens;
  header["note"] = trace.note;
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << header.dump(-1, ' ', true, json::error_handler_t::replace) << '\n';
  file.write(reinterpret_cast<const char*>(trace.ids.data()),
             static_cast<std::streamsize>(trace.ids.size() * sizeof(std::int32_t)));
  file.write(reinterpret_cast<const char*>(trace.weights.data()),
             static_cast<std::streamsize>(trace.weights.size() * sizeof(float)));
  file.close();
  if (!file) throw BadInput("--record " + path + ": cannot be written: " + std::strerror(errno ? errno : EIO));
}

}  // namespace crossdock::tools
