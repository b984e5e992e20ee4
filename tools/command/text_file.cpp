// SPDX-License-Identifier: Apache-2.0
#include "command/text_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "command/failures.hpp"

namespace crossdock::tools {
namespace {

namespace fs = std::filesystem;

/// `path` in the nearest folder from `start` upwards that is this repository; empty if there is none.
fs::path file_above(fs::path start, const std::string& path) {
  std::error_code ignored;
  for (;; start = start.parent_path()) {
    if (fs::exists(start / "include/crossdock/lists.h", ignored) && fs::exists(start / path, ignored))
      return start / path;
    if (!start.has_relative_path()) return {};
  }
}

/// Bytes that must follow `lead` in UTF-8, and the range of the first of them; -1: `lead` starts no character.
int followers(unsigned char lead, unsigned char& low, unsigned char& high) {
  low = 0x80, high = 0xbf;
  if (lead < 0x80) return 0;
  if (lead < 0xc2) return -1;
  if (lead < 0xe0) return 1;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead < 0xf0) return 2;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  return lead < 0xf5 ? 3 : -1;
}

void require_text(const Text& text) {
  const std::string hint = "; this is no text (--binary takes any bytes)";
  if (const std::size_t nul = text.bytes.find('\0'); nul != std::string::npos)
    throw BadInput("--text " + text.path + ": binary: byte " + std::to_string(nul) + " is NUL" + hint);
  if (const std::size_t at = first_non_utf8(text.bytes); at != std::string::npos)
    throw BadInput("--text " + text.path + ": binary: byte " + std::to_string(at) + " is not valid UTF-8" + hint);
}

}  // namespace

std::size_t first_non_utf8(const std::string& bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  for (std::size_t i = 0; i < bytes.size();) {
    unsigned char low, high;
    const int count = followers(at(i), low, high);
    if (count < 0) return i;
    for (int n = 1; n <= count; ++n, low = 0x80, high = 0xbf) {
      if (i + n == bytes.size()) return std::string::npos;
      if (at(i + n) < low || at(i + n) > high) return i;
    }
    i += 1 + static_cast<std::size_t>(count);
  }
  return std::string::npos;
}

Text read_text(const std::string& path, bool binary_allowed, std::size_t most) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw BadInput("--text " + path + ": no such file");
  if (fs::is_directory(status)) throw BadInput("--text " + path + ": is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  Text text{path, std::string(most, '\0')};
  file.read(text.bytes.data(), static_cast<std::streamsize>(most));
  if (!file.is_open() || file.bad())
    throw BadInput("--text " + path + ": cannot be read: " + std::strerror(errno ? errno : EIO));
  text.bytes.resize(static_cast<std::size_t>(file.gcount()));
  text.bytes.shrink_to_fit();
  if (text.bytes.empty()) throw BadInput("--text " + path + ": is empty; the layer needs at least one byte");
  if (!binary_allowed) require_text(text);
  return text;
}

std::string shipped_file(const std::string& name) {
  std::error_code ignored;
  const fs::path here = fs::current_path(ignored), program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path candidates[] = {
      file_above(here, name), file_above(program.parent_path(), name),
      program.parent_path().parent_path() / "share/doc/crossdock" / fs::path(name).filename(), here / name};
  for (const fs::path& path : candidates)
    if (!path.empty() && fs::exists(path, ignored)) return path.lexically_proximate(here).string();
  return "";
}

std::string default_text_path() {
  if (std::string path = shipped_file("README.md"); !path.empty()) return path;
  throw BadInput(
      "found no README.md to run over, neither of the repository nor of an installation; name a text: --text FILE");
}

}  // namespace crossdock::tools
