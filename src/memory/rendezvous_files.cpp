// SPDX-License-Identifier: Apache-2.0
// Creates, checks and removes the directory and files of a rendezvous.
#include "memory/rendezvous_files.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "platform/system/system_failure.hpp"

namespace crossdock::memory {

using platform::system::throw_system_error;
using platform::system::UniqueFd;

std::string PrivateDirectory::base_from_environment() {
  for (const char* variable : {"CROSSDOCK_RUNTIME_DIR", "XDG_RUNTIME_DIR"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && value[0] != '\0') return value;
  }
  return "/tmp";
}

PrivateDirectory PrivateDirectory::open(const std::string& base, uid_t owner) {
  constexpr const char* kAdvice = "set CROSSDOCK_RUNTIME_DIR to a directory of yours";
  PrivateDirectory directory;
  directory.path_ = base + "/crossdock-" + std::to_string(owner);
  const char* path = directory.path_.c_str();
  if (::mkdir(path, S_IRWXU) != 0 && errno != EEXIST)
    throw_system_error("creating the rendezvous directory " + directory.path_, errno, kAdvice);
  directory.fd_ = UniqueFd(::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.fd_) throw_system_error("opening the rendezvous directory " + directory.path_, errno, kAdvice);
  // Checks what was opened and not the path, so that nobody can replace the directory between check and use.
  struct stat info = {};
  if (::fstat(directory.fd_.get(), &info) != 0)
    throw_system_error("looking at the rendezvous directory " + directory.path_, errno);
  if (info.st_uid != owner || (info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%04o", static_cast<unsigned>(info.st_mode & 07777));
    throw SystemError("the rendezvous directory " + directory.path_ + " belongs to uid " + std::to_string(info.st_uid) +
                      " with mode " + mode + "; it must belong to uid " + std::to_string(owner) + " with mode 0700; " +
                      kAdvice);
  }
  return directory;
}

std::string PrivateDirectory::path_to(const std::string& file) const {
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(fd_.get());
  return (::access(by_descriptor.c_str(), X_OK) == 0 ? by_descriptor : path_) + "/" + file;
}

std::string socket_file_of(const std::string& name) { return name + ".sock"; }

NameLock::NameLock(const PrivateDirectory& directory, const std::string& name)
    : directory_(directory), lock_file_(name + ".lock"), socket_file_(socket_file_of(name)) {}

NameLock::~NameLock() { release(); }

bool NameLock::try_take() {
  for (;;) {
    UniqueFd lock(
        ::openat(directory_.fd(), lock_file_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR));
    if (!lock) throw_system_error("opening " + directory_.path() + "/" + lock_file_, errno);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno == EWOULDBLOCK) return false;
      throw_system_error("locking " + directory_.path() + "/" + lock_file_, errno);
    }
    struct stat held = {}, named = {};
    const bool same = ::fstat(lock.get(), &held) == 0 &&
                      ::fstatat(directory_.fd(), lock_file_.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                      held.st_ino == named.st_ino && held.st_dev == named.st_dev;
    if (!same) continue;      // the owner removed the file between our open and our lock
    lock_ = std::move(lock);  // a socket file that exists is that of an ended process
    ::unlinkat(directory_.fd(), socket_file_.c_str(), 0);
    return true;
  }
}

void NameLock::release() {
  if (!lock_) return;
  ::unlinkat(directory_.fd(), socket_file_.c_str(), 0);
  ::unlinkat(directory_.fd(), lock_file_.c_str(), 0);
  ::flock(lock_.get(), LOCK_UN);  // also for a forked child that still holds the descriptor
  lock_.reset();
}

}  // namespace crossdock::memory
