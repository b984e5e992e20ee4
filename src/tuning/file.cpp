// SPDX-License-Identifier: Apache-2.0
#include "tuning/file.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include "crossdock/error.hpp"
#include "crossdock/retired_names.h"

namespace crossdock::tuning {
namespace {

constexpr std::string_view kTitle = "crossdock-tuning 1 ";
constexpr std::string_view kRequired[] = {"op", "dtype", "hidden", "topk", "experts_per_rank", "tokens"};

/// File and line, with which error texts begin.
struct FilePosition {
  const std::string& file;
  int line;

  [[noreturn]] void refuse(const std::string& why) const {
    throw ConfigError("tuning file " + file + " line " + std::to_string(line) + ": " + why);
  }
};

/// `word`, in the marks of error texts.
std::string quoted(std::string_view word) { return std::string("`").append(word).append("`"); }

std::int32_t number_of(const FilePosition& position, const std::string& key, const std::string& value,
                       std::int32_t least) {
  std::int32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least || number > 1 << 24)
    position.refuse(key + " = `" + value + "`; must be " + std::to_string(least) + " to 2^24");
  return number;
}

template <class Enum, std::size_t kCount>
Enum named(const FilePosition& position, const std::string& key, const std::string& value,
           const std::string_view (&names)[kCount]) {
  std::string all;
  for (std::size_t i = 0; i < kCount; ++i) {
    if (names[i] == value) return static_cast<Enum>(i);
    all += (i ? ", " : "") + std::string(names[i]);
  }
  position.refuse(key + " = `" + value + "`; must be one of " + all);
}

/// ConfigError unless `line` is the title of a file with stamp `here`:
/// `crossdock-tuning 1 version=V ranks=N device=the rest of the line`
void check_stamp(const FilePosition& position, const std::string& line, const Stamp& here) {
  const std::string expected =
      "version=" + here.version + " ranks=" + std::to_string(here.num_ranks) + " device=" + here.device;
  if (line.rfind(kTitle, 0) != 0)
    position.refuse("`" + line.substr(0, 80) + "` is no title; `crossdock tune` begins a file with `" +
                    std::string(kTitle) + "version=...`");
  if (const std::string stamp = line.substr(kTitle.size()); stamp != expected)
    position.refuse("it is for " + stamp + ", and here is " + expected + "; run `crossdock tune` here, or unset it");
}

/// Sets the member of `entry` that `key` names. ConfigError if there is no such key or the value is out of range.
void set(const FilePosition& position, Entry& entry, const std::string& key, const std::string& value) {
  constexpr std::string_view kOps[] = {"dispatch", "combine"};
  const struct {
    const char* name;
    std::int32_t& member;
    std::int32_t least;
  } numbers[] = {{"hidden", entry.key.hidden, 1},
                 {"topk", entry.key.top_k, 1},
                 {"experts_per_rank", entry.key.experts_per_rank, 1},
                 {"tokens", entry.tokens, 1},
                 {"num_sms", entry.request.num_sms, 0},
                 {"num_blocks", entry.request.num_blocks, 0},
                 {"num_warps", entry.request.num_warps, 0},
                 {"splits_per_row", entry.request.splits_per_row, 0}};
  if (key == "op") return void(entry.key.combine = named<int>(position, key, value, kOps) != 0);
  if (key == "dtype") return void(entry.key.dtype = named<Dtype>(position, key, value, kDtypeNames));
  if (key == "path") return void(entry.key.path = named<Path>(position, key, value, kPathNames));
  for (const auto& number : numbers)
    if (key == number.name) return void(number.member = number_of(position, key, value, number.least));
#define XD_NAME(old_name, new_name) \
  if (key == #old_name) position.refuse("`" #old_name "` is called `" #new_name "` now; run `crossdock tune` again");
  XD_RETIRED_KEYS(XD_NAME)
#undef XD_NAME
  position.refuse("there is no key " + quoted(key));
}

/// Parses a line of key=value words. ConfigError if a key is missing, unknown or repeated.
Entry entry_of(const FilePosition& position, const std::string& line) {
  Entry entry;
  std::set<std::string> seen;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) position.refuse(quoted(word) + " is no key=value");
    const std::string key = word.substr(0, equals);
    if (!seen.insert(key).second) position.refuse(quoted(key) + " stands twice");
    set(position, entry, key, word.substr(equals + 1));
  }
  for (const std::string_view key : kRequired)
    if (!seen.contains(std::string(key))) position.refuse(quoted(key) + " is missing");
  if (entry.key.combine != seen.contains("path"))
    position.refuse(entry.key.combine ? "`path` is missing, which combine has"
                                      : "`path` is given, which dispatch has not");
  return entry;
}

}  // namespace

std::vector<Entry> read_file(const std::string& path, const Stamp& here) {
  std::ifstream in(path);
  if (!in)
    throw ConfigError("tuning file " + path + ": it cannot be read; write it with `crossdock tune`, or unset it");
  std::vector<Entry> all;
  bool stamped = false;
  std::string line;
  int number = 0;
  while (std::getline(in, line)) {
    const FilePosition position{path, ++number};
    if (line.empty() || line[0] == '#') continue;
    if (!stamped) {
      check_stamp(position, line, here);
      stamped = true;
      continue;
    }
    const Entry entry = entry_of(position, line);
    for (const Entry& before : all)
      if (before.key == entry.key && before.tokens == entry.tokens)
        position.refuse("an earlier line is about the same calls");
    all.push_back(entry);
  }
  if (!stamped) throw ConfigError("tuning file " + path + ": it is empty");
  return all;
}

std::vector<Entry> entries_of(const std::vector<Entry>& all, const Key& key) {
  std::vector<Entry> mine;
  for (const Entry& entry : all)
    if (entry.key == key) mine.push_back(entry);
  std::sort(mine.begin(), mine.end(), [](const Entry& a, const Entry& b) { return a.tokens < b.tokens; });
  return mine;
}

}  // namespace crossdock::tuning
