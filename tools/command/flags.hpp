// SPDX-License-Identifier: Apache-2.0
// Flags that verbs share: the members of a Config, enumerations by the names of lists.h, and byte counts.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "crossdock/config.hpp"

namespace crossdock::tools {

/// A flag whose values are `names`, the list of an enumeration.
template <class Enum, std::size_t kCount>
CLI::Option* add_enum(CLI::App& app, const std::string& flag, Enum& value, const std::string_view (&names)[kCount],
                      const std::string& help) {
  std::map<std::string, Enum> by_name;
  std::string all;
  for (std::size_t i = 0; i < kCount; ++i) {
    by_name.emplace(names[i], static_cast<Enum>(i));
    all += (i ? " | " : "") + std::string(names[i]);
  }
  const auto parse = [&value, by_name, all, flag](const CLI::results_t& words) {
    const auto found = by_name.find(words.at(0));
    if (found == by_name.end()) throw CLI::ValidationError(flag, "`" + words.at(0) + "` is none of " + all);
    value = found->second;
    return true;
  };
  CLI::Option* option = app.add_option(flag, parse, help + ": " + all);
  option->default_str(std::string(names[static_cast<std::size_t>(value)]))->type_name("NAME");
  return option;
}

/// Flags of the shape: --ranks --hidden --experts --topk. Sizes are limited to what the library can be asked for.
void add_shape_flags(CLI::App& app, Config& config, int& num_ranks);

/// Flags of what is done with the rows: --dtype --combine-dtype --combine-quant --layout --alignment --zero-copy.
void add_row_flags(CLI::App& app, Config& config);

/// --devices: ordinals of GPUs for ranks 0, 1, ... in turn.
void add_device_flag(CLI::App& app, std::vector<int>& devices);

/// Throws BadInput with the library's reason if `config` cannot be served.
void require_support(const Config& config, int num_ranks);

/// "24GiB", "1.5 MB", "4096" -> bytes. Throws BadInput.
std::uint64_t bytes_from(const std::string& text);

/// "1.50 GiB", "512 B"
std::string bytes_text(double bytes);
/// "12,345"
std::string grouped(std::int64_t n);

}  // namespace crossdock::tools
