// SPDX-License-Identifier: Apache-2.0
#include "command/flags.hpp"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>

#include "command/failures.hpp"

namespace crossdock::tools {

void add_shape_flags(CLI::App& app, Config& config, int& num_ranks) {
  add_number(app, "--ranks", num_ranks, 1, kMaxRanks, "Ranks of the group");
  add_number(app, "--hidden", config.hidden, 1, 1 << 20, "Elements per row");
  add_number(app, "--experts", config.num_experts, 1, 1 << 16, "Experts of the whole group");
  add_number(app, "--topk", config.top_k, 1, kMaxTopk, "Experts per token");
}

void add_row_flags(CLI::App& app, Config& config) {
  add_enum(app, "--dtype", config.dispatch_dtype, kDtypeNames, "Rows of dispatch");
  add_enum(app, "--combine-dtype", config.combine_dtype, kDtypeNames, "Rows of combine and of the result");
  add_enum(app, "--combine-quant", config.combine_quant, kCombineQuantNames, "What crosses the link in combine");
  add_enum(app, "--layout", config.layout, kLayoutNames, "Order of the received rows");
  app.add_option("--alignment", config.alignment, "contiguous: an expert starts at a multiple of so many rows")
      ->check(CLI::IsMember({1, 8, 16, 32, 128}))
      ->capture_default_str();
  app.add_flag("--zero-copy", config.zero_copy, "Expert outputs are written into the buffer that the library owns");
}

void add_device_flag(CLI::App& app, std::vector<int>& devices) {
  app.add_option("--devices", devices, "GPUs of ranks 0, 1, ... in turn, by commas; without it all GPUs")
      ->delimiter(',');
}

void require_support(const Config& config, int num_ranks) {
  if (const Support support = supports(config, num_ranks); !support) throw BadInput("{}", support.reason);
}

std::uint64_t bytes_from(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit;
  for (const char* c = end; *c; ++c)
    if (!std::isspace(static_cast<unsigned char>(*c))) unit += static_cast<char>(std::toupper(*c));
  static const std::map<std::string, double> kUnits = {
      {"", 1},       {"B", 1},         {"KB", 1e3},         {"MB", 1e6},     {"GB", 1e9},        {"TB", 1e12},
      {"K", 1024.0}, {"M", 1048576.0}, {"G", 1073741824.0}, {"KIB", 1024.0}, {"MIB", 1048576.0}, {"GIB", 1073741824.0},
      {"T", 0x1p40}, {"TIB", 0x1p40}};
  const auto found = kUnits.find(unit);
  const double bytes = found == kUnits.end() ? -1.0 : number * found->second;
  if (end == text.c_str() || !std::isfinite(bytes) || bytes < 1 || bytes > 0x1p62)
    throw BadInput("`{}` is no number of bytes; write e.g. 4096, 512MiB or 24GiB", text);
  return static_cast<std::uint64_t>(bytes);
}

std::string bytes_text(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", bytes, unit ? 2 : 0, units[unit]);
}

std::string grouped(std::int64_t n) {
  std::string digits = std::to_string(n < 0 ? -n : n);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return (n < 0 ? "-" : "") + digits;
}

}  // namespace crossdock::tools
