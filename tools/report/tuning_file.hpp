// SPDX-License-Identifier: Apache-2.0
// Writes what the library reads as GroupOptions::tuning_file, beside what the file says already of other calls.
#pragma once

#include <map>
#include <string>

namespace crossdock::tools {

class TuningFile {
 public:
  /// Takes the entries of `path` if there is such a file; BadInput if it begins with another title than `title`.
  TuningFile(std::string path, std::string title);

  void set(const std::string& call, const std::string& request) { entries_[call] = request; }
  /// Written beside and then moved: nobody reads half a file. BadInput if it cannot be written.
  void write(const std::string& comment) const;

 private:
  std::string path_, title_;
  std::map<std::string, std::string> entries_;  // keys of a call -> what is asked for it
};

}  // namespace crossdock::tools
