// SPDX-License-Identifier: Apache-2.0
// One mode of sharing for all ranks, and memory that processes share by it. The device with handles is the CPU's, which
// has none of its own: here a handle names a descriptor of the process that made it.
#include "memory/share_mode.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "crossdock/error.hpp"
#include "memory/bootstrap.hpp"
#include "memory/peer_memory.hpp"
#include "memory/rendezvous.hpp"
#include "platform/cpu/device.hpp"
#include "platform/system/unique_fd.hpp"
#include "unit/processes.hpp"

namespace crossdock::memory {
namespace {

using platform::Share;
using platform::ShareOffer;
using testing::contains;

constexpr ShareOffer kBoth{Share::descriptor, false, true}, kHandlesOnly{Share::handle, false, false},
    kHandlesRather{Share::handle, false, true}, kToldVmm{Share::descriptor, true, true},
    kToldIpc{Share::handle, true, true}, kToldVmmInVain{Share::descriptor, true, false};

TEST(ShareMode, OneRankThatCannotMakesAllUseHandles) {
  EXPECT_EQ(agree_on_share_mode({kBoth, kBoth}).share, Share::descriptor);
  for (std::size_t r = 0; r < 4; ++r) {
    std::vector<ShareOffer> offers(4, kBoth);
    offers[r] = kHandlesOnly;
    const ShareMode mode = agree_on_share_mode(offers);
    EXPECT_EQ(mode.share, Share::handle) << r;
    EXPECT_TRUE(contains(mode.text, "ipc: the device of rank " + std::to_string(r))) << mode.text;
  }
  EXPECT_EQ(agree_on_share_mode({kBoth, kHandlesRather}).share, Share::handle);
}

TEST(ShareMode, WhatOneRankIsToldHoldsForAll) {
  EXPECT_EQ(agree_on_share_mode({kBoth, kToldIpc}).share, Share::handle);
  EXPECT_EQ(agree_on_share_mode({kHandlesRather, kToldVmm}).share, Share::descriptor);
  EXPECT_TRUE(contains(agree_on_share_mode({kBoth, kToldIpc}).text, "CROSSDOCK_IPC says so on rank 1"));
}

/// What a refused agreement says.
template <class Expected>
std::string refusal(const std::vector<ShareOffer>& offers) {
  try {
    return "agreed on " + agree_on_share_mode(offers).text;
  } catch (const Expected& error) {
    return error.what();
  }
}

TEST(ShareMode, OrdersThatCannotBeFollowedAreErrors) {
  EXPECT_TRUE(contains(refusal<ConfigError>({kToldVmm, kBoth, kToldIpc}), "is vmm on rank 0 and ipc on rank 2"));
  const std::string in_vain = refusal<TopologyError>({kBoth, kToldVmmInVain});
  EXPECT_TRUE(contains(in_vain, "the device of rank 1 cannot export")) << in_vain;
  EXPECT_TRUE(contains(refusal<TopologyError>({kToldVmm, kHandlesOnly}), "vmm on rank 0, and the device of rank 1"));
}

TEST(ShareMode, TheEnvironmentIsHeardBeforeTheDevice) {
  const auto offer = [](const char* told, bool has_descriptors) {
    ::setenv("CROSSDOCK_IPC", told, 1);
    const ShareOffer offered = platform::share_offer(Share::descriptor, has_descriptors);
    ::unsetenv("CROSSDOCK_IPC");
    return offered;
  };
  EXPECT_EQ(offer("", true).wanted, Share::descriptor);
  EXPECT_EQ(offer("automatic", false).wanted, Share::handle);  // falls back by itself
  EXPECT_FALSE(offer("automatic", false).forced);
  EXPECT_EQ(offer("vmm", false).wanted, Share::descriptor);
  EXPECT_TRUE(offer("vmm", false).forced);
  EXPECT_EQ(offer("ipc", true).wanted, Share::handle);
  EXPECT_TRUE(offer("ipc", true).forced);
  EXPECT_THROW(offer("smoke signals", true), ConfigError);
  ::unsetenv("CROSSDOCK_IPC");
}

/// The CPU, but for what it says of sharing; it refuses the mode that it says it lacks.
class HandleDevice : public platform::Device {
 public:
  explicit HandleDevice(ShareOffer offer) : offer_(offer), cpu_(platform::cpu::open_device()) {}
  ShareOffer share_offer() const override { return offer_; }
  int export_descriptor(const platform::Block& block) override {
    if (!offer_.has_descriptors) throw SystemError("this device exports no descriptors");
    return cpu_->export_descriptor(block);
  }
  platform::BlockPtr import_descriptor(int fd, std::uint64_t bytes) override {
    return cpu_->import_descriptor(fd, bytes);
  }
  std::string export_handle(const platform::Block& block) override {
    kept_.emplace_back(cpu_->export_descriptor(block));
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(kept_.back().get());
  }
  platform::BlockPtr import_handle(const std::string& handle, std::uint64_t bytes) override {
    const platform::system::UniqueFd fd(::open(handle.c_str(), O_RDWR | O_CLOEXEC));
    if (fd.get() < 0) throw SystemError("no handle: " + handle);
    return cpu_->import_descriptor(fd.get(), bytes);
  }
  platform::BlockPtr allocate(std::uint64_t bytes, Share share) override { return cpu_->allocate(bytes, share); }

  BackendKind kind() const override { return cpu_->kind(); }
  int ordinal() const override { return cpu_->ordinal(); }
  platform::Limits limits() const override { return cpu_->limits(); }
  std::string model() const override { return cpu_->model(); }
  platform::BlockPtr allocate_host_visible(std::uint64_t bytes) override { return cpu_->allocate_host_visible(bytes); }
  void enable_peer_access(const platform::BlockPtr& block) override { cpu_->enable_peer_access(block); }
  std::string peer_access_error(int other) override { return cpu_->peer_access_error(other); }
  void fill(void* to, std::uint8_t v, std::uint64_t n) override { cpu_->fill(to, v, n); }
  void fill_on(StreamHandle s, void* to, std::uint8_t v, std::uint64_t n) override { cpu_->fill_on(s, to, v, n); }
  void write_async(void* to, const void* from, std::uint64_t bytes) override { cpu_->write_async(to, from, bytes); }
  void read_sync(void* to, const void* from, std::uint64_t bytes) override { cpu_->read_sync(to, from, bytes); }
  void write_word_async(std::uint64_t* to, std::uint64_t value) override { cpu_->write_word_async(to, value); }
  std::unique_ptr<platform::Event> make_event() override { return cpu_->make_event(); }
  std::string pointer_error(const void* pointer) override { return cpu_->pointer_error(pointer); }
  bool check_stream(StreamHandle stream) override { return cpu_->check_stream(stream); }
  void wait_for(StreamHandle stream) override { cpu_->wait_for(stream); }

 private:
  ShareOffer offer_;
  std::shared_ptr<platform::Device> cpu_;
  std::vector<platform::system::UniqueFd> kept_;
};

/// Ranks as processes map one another's memory; each says the mode that all have agreed on.
testing::Verdicts share_between_processes(const std::vector<ShareOffer>& offers) {
  const int n = static_cast<int>(offers.size());
  testing::ScratchFolder folder;
  ::setenv("CROSSDOCK_RUNTIME_DIR", folder.path().c_str(), 1);
  testing::Processes processes(n, [&](int r) {
    Sharing s;
    s.deadline = std::chrono::seconds(20);
    s.all_gather = all_gather_of(Rendezvous::meet("mode", r, n, s.deadline));
    s.device = std::make_shared<HandleDevice>(offers[static_cast<std::size_t>(r)]);
    s.rank = r, s.num_ranks = n, s.in_process = 1u << r;
    s.share_mode = agree_on_share_mode(all_gather_value(s.all_gather, n, s.device->share_offer()));
    const PeerMemory memory = PeerMemory::create(s, 4096, "test");
    for (int to = 0; to < n; ++to) memory.base(to)[r] = std::byte(r + 1);
    agree(s, "", "test");  // all have written
    for (int from = 0; from < n; ++from)
      if (memory.base(r)[from] != std::byte(from + 1)) return std::string("rank ") + std::to_string(from) + " unseen";
    agree(s, "", "test");  // all have read
    return s.share_mode.text.substr(0, 3);
  });
  const testing::Verdicts verdicts = processes.verdicts();
  ::unsetenv("CROSSDOCK_RUNTIME_DIR");
  return verdicts;
}

TEST(ShareMode, ProcessesFallBackToHandles) {
  EXPECT_EQ(share_between_processes({kBoth, kHandlesOnly, kBoth}), testing::Verdicts(3, "ipc"));
  EXPECT_EQ(share_between_processes({kBoth, kBoth, kBoth}), testing::Verdicts(3, "vmm"));
}

}  // namespace
}  // namespace crossdock::memory
