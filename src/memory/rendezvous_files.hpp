// SPDX-License-Identifier: Apache-2.0
// The private directory of a rendezvous, and the files in it.
#pragma once

#include <sys/types.h>

#include <string>

#include "platform/system/unique_fd.hpp"

namespace crossdock::memory {

/// <CROSSDOCK_RUNTIME_DIR, $XDG_RUNTIME_DIR or /tmp>/crossdock-<uid>, created if missing, held open.
class PrivateDirectory {
 public:
  /// SystemError unless the directory is no link, belongs to `owner` and is closed to everybody else.
  static PrivateDirectory open(const std::string& base, uid_t owner);
  static std::string base_from_environment();

  const std::string& path() const { return path_; }
  /// A path to `file` that stays right if the directory is renamed, and that fits a socket address however long path() is.
  std::string path_to(const std::string& file) const;
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  platform::system::UniqueFd fd_;
};

/// Rank 0's right to listen under a name: a lock that dies with its process. Removes the files when destroyed.
class NameLock {
 public:
  NameLock(const PrivateDirectory& directory, const std::string& name);
  ~NameLock();
  NameLock(const NameLock&) = delete;
  NameLock& operator=(const NameLock&) = delete;

  /// False if a live process holds the name. Once true, files of a dead owner are gone.
  bool try_take();
  void release();

 private:
  const PrivateDirectory& directory_;
  std::string lock_file_, socket_file_;
  platform::system::UniqueFd lock_;
};

/// Name of the socket file of rendezvous `name`.
std::string socket_file_of(const std::string& name);

}  // namespace crossdock::memory
