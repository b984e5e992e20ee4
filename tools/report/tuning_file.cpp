// SPDX-License-Identifier: Apache-2.0
#include "report/tuning_file.hpp"

#include <cstdio>
#include <fstream>

#include "command/failures.hpp"

namespace crossdock::tools {

TuningFile::TuningFile(std::string path, std::string title) : path_(std::move(path)), title_(std::move(title)) {
  std::ifstream in(path_);
  bool titled = false;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    if (!titled && line != title_)
      throw BadInput(path_ + " begins with `" + line.substr(0, 120) + "`, not with `" + title_ +
                     "`; give another file");
    if (titled) {
      std::size_t end = line.find("tokens=");
      end = end == std::string::npos ? line.size() : std::min(line.find(' ', end), line.size());
      set(line.substr(0, end), line.substr(end));
    }
    titled = true;
  }
}

void TuningFile::write(const std::string& comment) const {
  const std::string beside = path_ + ".new";
  std::ofstream out(beside);
  out << title_ << "\n# " << comment << "\n";
  for (const auto& [call, request] : entries_) out << call << request << "\n";
  out.close();
  if (!out || std::rename(beside.c_str(), path_.c_str()) != 0) throw BadInput("cannot write " + path_);
}

}  // namespace crossdock::tools
