// SPDX-License-Identifier: Apache-2.0
#include "command/text_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "command/failures.hpp"

namespace crossdock::tools {
namespace {

namespace fs = std::filesystem;

/// README.md in the nearest folder from `start` upwards that is this repository; empty if there is none.
fs::path readme_above(fs::path start) {
  std::error_code ignored;
  for (;; start = start.parent_path()) {
    if (fs::exists(start / "include/crossdock/lists.h", ignored)) return start / "README.md";
    if (!start.has_relative_path()) return {};
  }
}

}  // namespace

std::string read_file(const std::string& flag, const std::string& path, std::size_t most) {
  const auto refuse = [&](const std::string& why) { throw BadInput("{} {}: {}", flag, path, why); };
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) refuse("no such file");
  if (fs::is_directory(status)) refuse("is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  char chunk[1 << 16];
  while (bytes.size() < most && (file.read(chunk, sizeof chunk), file.gcount() > 0))
    bytes.append(chunk, static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad()) refuse(fmt::format("cannot be read: {}", std::strerror(errno ? errno : EIO)));
  bytes.resize(std::min(bytes.size(), most));
  if (bytes.empty()) refuse("is empty");
  return bytes;
}

Text read_text(const std::string& path, bool binary_allowed, std::size_t most) {
  Text text{path, read_file("--text", path, most)};
  if (const std::size_t nul = text.bytes.find('\0'); nul != std::string::npos && !binary_allowed)
    throw BadInput("--text {}: binary: byte {} is NUL; this is no text (--binary takes any bytes)", path, nul);
  return text;
}

std::string default_text_path() {
  std::error_code ignored;
  const fs::path here = fs::current_path(ignored), program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& path : {readme_above(here), readme_above(program),
                               program.parent_path() / "share/doc/crossdock/README.md", here / "README.md"})
    if (!path.empty() && fs::exists(path, ignored)) return path.lexically_proximate(here).string();
  throw BadInput(
      "found no README.md to run over, neither of the repository nor of an installation; name a text: --text FILE");
}

}  // namespace crossdock::tools
