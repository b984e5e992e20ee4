// SPDX-License-Identifier: Apache-2.0
// Files that flags name: the text that the layer runs over, traces.
#pragma once

#include <string>

namespace crossdock::tools {

/// The first `most` bytes of the file that `flag` names. Throws BadInput: missing, a directory, unreadable, empty.
std::string read_file(const std::string& flag, const std::string& path, std::size_t most);

struct Text {
  std::string path;
  std::string bytes;
};

/// The first `most` bytes of a file. Throws BadInput also, unless `binary_allowed`, where they hold NUL.
Text read_text(const std::string& path, bool binary_allowed, std::size_t most);

/// README.md of the repository that the working directory or this program lies in, else of the installation this program
/// belongs to, else of the working directory. Throws BadInput if there is none.
std::string default_text_path();

}  // namespace crossdock::tools
