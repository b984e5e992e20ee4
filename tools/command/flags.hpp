// SPDX-License-Identifier: Apache-2.0
// Flags that verbs share: the members of a Config, enumerations by the names of lists.h, and byte counts.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "command/names.hpp"
#include "crossdock/config.hpp"

namespace crossdock::tools {

inline constexpr int kMostTokens = (1 << 24) - 1;

/// A flag for a number from `least` to `most`; its help ends with the default.
template <class Number>
CLI::Option* add_number(CLI::App& app, const std::string& flag, Number& value, std::type_identity_t<Number> least,
                        std::type_identity_t<Number> most, const std::string& help) {
  return app.add_option(flag, value, help)->check(CLI::Range(least, most))->capture_default_str();
}

/// A flag for several values of an enumeration, by commas. Their names, in order, are `names`.
template <class Enum, std::size_t kCount>
void add_enums(CLI::App& app, const std::string& flag, std::vector<Enum>& values,
               const std::string_view (&names)[kCount], const std::string& help) {
  const auto parse = [&values, &names, flag](const CLI::results_t& words) {
    values.clear();
    for (const std::string& word : words) {
      const auto found = named<Enum>(names, word);
      if (!found)
        throw CLI::ValidationError(flag, fmt::format("there is no `{}`; there are {}", word, fmt::join(names, ", ")));
      values.push_back(*found);
    }
    return true;
  };
  std::vector<std::string_view> usual;
  usual.reserve(values.size());
  for (const Enum value : values) usual.push_back(names[static_cast<std::size_t>(value)]);
  app.add_option(flag, parse, fmt::format("{}: {}", help, fmt::join(names, ", ")))
      ->delimiter(',')
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->default_str(fmt::format("{}", fmt::join(usual, ",")))
      ->type_name("NAME");
}

/// A flag whose values are `names`, the list of an enumeration.
template <class Enum, std::size_t kCount>
void add_enum(CLI::App& app, const std::string& flag, Enum& value, const std::string_view (&names)[kCount],
              const std::string& help) {
  const auto parse = [&value, &names, flag](const CLI::results_t& words) {
    const auto found = named<Enum>(names, words.at(0));
    if (!found)
      throw CLI::ValidationError(flag, fmt::format("`{}` is none of {}", words.at(0), fmt::join(names, " | ")));
    value = *found;
    return true;
  };
  app.add_option(flag, parse, fmt::format("{}: {}", help, fmt::join(names, " | ")))
      ->default_str(std::string(names[static_cast<std::size_t>(value)]))
      ->type_name("NAME");
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
