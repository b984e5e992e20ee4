// SPDX-License-Identifier: Apache-2.0
// CpuStream: a queue and its thread. The exception of a call is stored for synchronize(); later calls still run.
#include "platform/cpu/stream.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "crossdock/cpu_stream.hpp"
#include "crossdock/error.hpp"

namespace crossdock {

namespace {

/// Handles of live streams, which every call searches (check_stream). So readers take no lock: slots are atomic, and
/// chunks are never freed.
class LiveStreams {
 public:
  static LiveStreams& get() {
    static LiveStreams* all = new LiveStreams;  // streams may outlive static destructors
    return *all;
  }

  void add(const void* handle) {
    const std::lock_guard lock(changing_);
    for (Chunk* chunk = &first_;; chunk = chunk->next.load()) {
      for (auto& slot : chunk->slots) {
        if (slot.load() == nullptr) return slot.store(handle);
      }
      if (chunk->next.load() == nullptr) chunk->next.store(new Chunk);
    }
  }
  void remove(const void* handle) {
    const std::lock_guard lock(changing_);
    for (Chunk* chunk = &first_; chunk != nullptr; chunk = chunk->next.load()) {
      for (auto& slot : chunk->slots) {
        if (slot.load() == handle) return slot.store(nullptr);
      }
    }
  }
  bool contains(const void* handle) const {
    for (const Chunk* chunk = &first_; chunk != nullptr; chunk = chunk->next.load(std::memory_order_acquire)) {
      for (const auto& slot : chunk->slots) {
        if (slot.load(std::memory_order_relaxed) == handle) return true;
      }
    }
    return false;
  }

 private:
  struct Chunk {
    std::atomic<const void*> slots[32] = {};
    std::atomic<Chunk*> next = nullptr;
  };
  std::mutex changing_;
  Chunk first_;
};

/// A FIFO in a ring buffer. It allocates only when it grows.
class CallQueue {
 public:
  bool empty() const { return num_ == 0; }
  void push(std::function<void()> call) {
    if (num_ == ring_.size()) grow();
    ring_[(first_ + num_++) % ring_.size()] = std::move(call);
  }
  std::function<void()> pop() {
    std::function<void()> call = std::move(ring_[first_]);
    ring_[first_] = nullptr;
    first_ = (first_ + 1) % ring_.size();
    --num_;
    return call;
  }

 private:
  void grow() {
    std::vector<std::function<void()>> larger(ring_.size() * 2);
    for (std::size_t i = 0; i < num_; ++i) larger[i] = std::move(ring_[(first_ + i) % ring_.size()]);
    ring_ = std::move(larger);
    first_ = 0;
  }
  std::vector<std::function<void()>> ring_{16};
  std::size_t first_ = 0, num_ = 0;
};

}  // namespace

struct CpuStream::State {
  mutable std::mutex mutex;
  std::condition_variable work, idle;
  CallQueue queue;
  bool running = false, stopping = false, capturing = false;
  std::shared_ptr<std::vector<std::function<void()>>> recorded;
  std::exception_ptr failure;  // the first since the last synchronize()
  std::thread thread;

  void run_one(const std::function<void()>& call) {
    try {
      call();
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void serve() {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      running = true;
      {
        const std::function<void()> call = queue.pop();
        lock.unlock();
        run_one(call);
      }  // destroys the call before synchronize() can return
      lock.lock();
      running = false;
      if (queue.empty()) idle.notify_all();
    }
  }
};

CpuStream::CpuStream() : state_(std::make_unique<State>()) {
  LiveStreams::get().add(this);
  try {
    state_->thread = std::thread([state = state_.get()] { state->serve(); });
  } catch (const std::system_error& e) {
    LiveStreams::get().remove(this);
    throw SystemError(std::string("CpuStream: starting a thread failed: ") + e.what());
  }
}

CpuStream::~CpuStream() {
  LiveStreams::get().remove(this);
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work.notify_one();
  state_->thread.join();
}

StreamHandle CpuStream::handle() { return this; }

void CpuStream::enqueue(std::function<void()> call) {
  if (!call) throw UsageError("CpuStream::enqueue: the call is empty; pass a function");
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->capturing) return state_->recorded->push_back(std::move(call));
    state_->queue.push(std::move(call));
  }
  state_->work.notify_one();
}

void CpuStream::synchronize() {
  if (std::this_thread::get_id() == state_->thread.get_id())
    throw StateError("CpuStream::synchronize: called by a call that runs on this stream; it would wait for itself");
  std::unique_lock lock(state_->mutex);
  if (state_->capturing) throw StateError("CpuStream::synchronize: the stream is capturing; call end_capture() first");
  state_->idle.wait(lock, [&] { return state_->queue.empty() && !state_->running; });
  if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
}

void CpuStream::begin_capture() {
  const std::lock_guard lock(state_->mutex);
  if (state_->capturing) throw StateError("CpuStream::begin_capture: the stream is capturing already");
  state_->recorded = std::make_shared<std::vector<std::function<void()>>>();
  state_->capturing = true;
}

CpuGraph CpuStream::end_capture() {
  const std::lock_guard lock(state_->mutex);
  if (!state_->capturing)
    throw StateError("CpuStream::end_capture: the stream is not capturing; call begin_capture() first");
  state_->capturing = false;
  CpuGraph graph;
  graph.calls_ = std::move(state_->recorded);
  return graph;
}

bool CpuStream::capturing() const {
  const std::lock_guard lock(state_->mutex);
  return state_->capturing;
}

void CpuStream::replay(const CpuGraph& graph) {
  if (graph.num_calls() == 0) return;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->capturing) {
      state_->recorded->insert(state_->recorded->end(), graph.calls_->begin(), graph.calls_->end());
      return;
    }
  }
  // As one queued call. run_one() keeps the exception of a recorded call, so the later ones still run.
  enqueue([state = state_.get(), calls = graph.calls_] {
    for (const auto& call : *calls) state->run_one(call);
  });
}

std::size_t CpuGraph::num_calls() const { return calls_ ? calls_->size() : 0; }

namespace platform::cpu {

void check_stream(StreamHandle stream) {
  if (stream == nullptr || LiveStreams::get().contains(stream)) return;
  char address[32];
  std::snprintf(address, sizeof(address), "%p", stream);
  throw UsageError(std::string("stream ") + address +
                   " is not the handle of a live CpuStream; on the CPU pass CpuStream::handle(), or nullptr to run the "
                   "call in this thread");
}

void enqueue_on(StreamHandle stream, std::function<void()> call) {
  check_stream(stream);
  if (stream == nullptr) return call();
  static_cast<CpuStream*>(stream)->enqueue(std::move(call));
}

}  // namespace platform::cpu

}  // namespace crossdock
