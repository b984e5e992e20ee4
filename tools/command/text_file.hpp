// SPDX-License-Identifier: Apache-2.0
// The text that the layer runs over.
#pragma once

#include <string>

namespace crossdock::tools {

struct Text {
  std::string path;
  std::string bytes;
};

/// The first `most` bytes of a file. Throws BadInput: missing, a directory, unreadable, empty; and, unless
/// `binary_allowed`, holding NUL bytes or no UTF-8.
Text read_text(const std::string& path, bool binary_allowed, std::size_t most);

/// README.md as a shipped file. Throws BadInput if there is none.
std::string default_text_path();

/// A file of the repository that the working directory or this program lies in, else of the installation this program
/// belongs to, else of the working directory; empty if there is none.
std::string shipped_file(const std::string& path);

/// Offset of the first byte that makes `bytes` no UTF-8, or npos. A character cut off at the end is no fault.
std::size_t first_non_utf8(const std::string& bytes);

}  // namespace crossdock::tools
