// SPDX-License-Identifier: Apache-2.0
#include "platform/cpu/device.hpp"

#include <fcntl.h>

#include <atomic>
#include <cstring>
#include <fstream>

#include "crossdock/cpu_stream.hpp"
#include "platform/cpu/memory.hpp"
#include "platform/cpu/stream.hpp"
#include "platform/system/system_failure.hpp"

namespace crossdock::platform::cpu {
namespace {

class CpuBlock : public Block {
 public:
  explicit CpuBlock(SharedBlock pages) : pages_(std::move(pages)) {
    data_ = pages_.data();
    bytes_ = pages_.bytes();
  }
  int descriptor() const { return pages_.fd(); }

 private:
  SharedBlock pages_;
};

/// Each mark enqueues a call that counts. The event has passed when all marks have been counted.
class CpuEvent : public Event {
 public:
  void mark(StreamHandle stream) noexcept override {
    if (!stream) return;  // calls without a stream have ended on return
    ++marks_;
    try {
      enqueue_on(stream, [this] { reached_.fetch_add(1, std::memory_order_release); });
    } catch (...) {  // no memory for the queue: the event never passes
    }
  }
  bool passed() const noexcept override { return reached_.load(std::memory_order_acquire) == marks_; }

 private:
  std::uint64_t marks_ = 0;
  std::atomic<std::uint64_t> reached_{0};
};

class CpuDevice : public Device {
 public:
  BackendKind kind() const override { return BackendKind::cpu; }
  int ordinal() const override { return 0; }
  Limits limits() const override { return {}; }
  std::string model() const override {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
      if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
    return "CPU";
  }

  BlockPtr allocate(std::uint64_t bytes, Share share) override {
    return std::make_shared<CpuBlock>(SharedBlock::allocate(bytes, share != Share::none));
  }
  BlockPtr allocate_host_visible(std::uint64_t bytes) override { return allocate(bytes, Share::none); }
  ShareOffer share_offer() const override { return {Share::descriptor, false, true}; }
  int export_descriptor(const Block& block) override {
    const int copy = ::fcntl(static_cast<const CpuBlock&>(block).descriptor(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) system::throw_system_error("copying a memory descriptor", errno);
    return copy;
  }
  BlockPtr import_descriptor(int descriptor, std::uint64_t bytes) override {
    return std::make_shared<CpuBlock>(SharedBlock::open(descriptor, bytes));
  }
  std::string export_handle(const Block&) override { return {}; }
  BlockPtr import_handle(const std::string&, std::uint64_t) override { return nullptr; }
  void enable_peer_access(const BlockPtr&) override {}
  std::string peer_access_error(int) override { return {}; }

  void fill(void* to, std::uint8_t value, std::uint64_t bytes) override { std::memset(to, value, bytes); }
  void fill_on(StreamHandle stream, void* to, std::uint8_t value, std::uint64_t bytes) override {
    enqueue_on(stream, [to, value, bytes] { std::memset(to, value, bytes); });
  }
  void write_async(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  void read_sync(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  void write_word_async(std::uint64_t* to, std::uint64_t value) override {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
  }

  std::unique_ptr<Event> make_event() override { return std::make_unique<CpuEvent>(); }

  std::string pointer_error(const void*) override { return {}; }
  bool check_stream(StreamHandle stream) override {
    cpu::check_stream(stream);
    return stream && static_cast<CpuStream*>(stream)->capturing();
  }
  void wait_for(StreamHandle stream) override {
    if (stream) static_cast<CpuStream*>(stream)->synchronize();
  }
};

}  // namespace

std::shared_ptr<Device> open_device() { return std::make_shared<CpuDevice>(); }

}  // namespace crossdock::platform::cpu
