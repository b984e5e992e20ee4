// SPDX-License-Identifier: Apache-2.0
// getrandom(2), and a page that the kernel clears in forked children.
#include "platform/system/random_id.hpp"

#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "platform/system/system_failure.hpp"

namespace crossdock::platform::system {

namespace {

/// Two words that are 0 until they are set, and again 0 in a child after fork.
std::uint64_t* words_wiped_on_fork() {
  static std::uint64_t* words = [] {
    const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* page = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw_system_error("process id: mmap of one page", errno);
    if (::madvise(page, bytes, MADV_WIPEONFORK) != 0) {
      const int error = errno;
      ::munmap(page, bytes);
      throw_system_error("process id: madvise(MADV_WIPEONFORK)", error, "Linux 4.14 or later is needed");
    }
    return static_cast<std::uint64_t*>(page);
  }();
  return words;
}

}  // namespace

Id128 random_id128() {
  Id128 id;
  auto* to = reinterpret_cast<unsigned char*>(&id);
  std::size_t got = 0;
  while (got < sizeof(id)) {
    const ssize_t n = ::getrandom(to + got, sizeof(id) - got, 0);
    if (n > 0) {
      got += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      throw_system_error("getrandom", errno);
    }
  }
  return id;
}

Id128 process_id128() {
  std::uint64_t* words = words_wiped_on_fork();
  Id128 id;
  for (int i = 0; i < 2; ++i) {
    id.word[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
    if (id.word[i] != 0) continue;
    // 0 means not drawn, so the lowest bit is set. Threads may race here. The first to set a word wins; the result is
    // as random as each draw.
    const std::uint64_t drawn = random_id128().word[i] | 1;
    if (__atomic_compare_exchange_n(&words[i], &id.word[i], drawn, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      id.word[i] = drawn;
  }
  return id;
}

std::string hex_of(const Id128& id) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(id.word[0]),
                static_cast<unsigned long long>(id.word[1]));
  return text;
}

}  // namespace crossdock::platform::system
