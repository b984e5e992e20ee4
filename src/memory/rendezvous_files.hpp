// SPDX-License-Identifier: Apache-2.0
// The private directory of a rendezvous, and the files in it.
#pragma once

#include <sys/types.h>

#include <string>

#include "platform/system/unique_fd.hpp"

namespace crossdock::memory {

/// The directory <CROSSDOCK_RUNTIME_DIR, $XDG_RUNTIME_DIR or /tmp>/crossdock-<uid>, created if missing, as an open
/// descriptor.
class PrivateDirectory {
 public:
  /// SystemError if the directory is a symbolic link, belongs to another user, or grants others any access.
  static PrivateDirectory open(const std::string& base, uid_t owner);
  /// CROSSDOCK_RUNTIME_DIR, else XDG_RUNTIME_DIR, else /tmp.
  static std::string base_from_environment();

  const std::string& path() const { return path_; }
  /// A path to `file` through /proc/self/fd. It stays valid if the directory is renamed, and is short enough for a
  /// socket address, which holds about 100 bytes. Where /proc is missing: path() + "/" + file.
  std::string path_to(const std::string& file) const;
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  platform::system::UniqueFd fd_;
};

/// The lock that rank 0 must hold to listen under a name. It is a lock on a file, which the system releases when the
/// process ends. The destructor removes the lock file and the socket file.
class NameLock {
 public:
  NameLock(const PrivateDirectory& directory, const std::string& name);
  ~NameLock();
  NameLock(const NameLock&) = delete;
  NameLock& operator=(const NameLock&) = delete;

  /// False if a live process has the lock. True: this process has it, and files of an ended owner are removed.
  bool try_take();
  void release();

 private:
  const PrivateDirectory& directory_;
  std::string lock_file_, socket_file_;
  platform::system::UniqueFd lock_;
};

/// Name of the socket file for rendezvous `name`.
std::string socket_file_of(const std::string& name);

}  // namespace crossdock::memory
