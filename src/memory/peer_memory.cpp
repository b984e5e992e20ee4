// SPDX-License-Identifier: Apache-2.0
#include "memory/peer_memory.hpp"

#include <cstring>

#include "crossdock/error.hpp"
#include "memory/handles.hpp"

namespace crossdock::memory {
namespace {

struct Verdict {
  char failure[239];
  StatusCode code;
};

struct SharedHandle {
  char bytes[64];
};

template <class T>
std::vector<T> gather(const AllGather& all_gather, const T& mine, int num_ranks) {
  std::vector<T> all(num_ranks);
  all_gather(&mine, sizeof(T), all.data());
  return all;
}

/// Blocks of ranks that are threads of this process: copies of their counted references.
std::vector<platform::BlockPtr> share_references(const Sharing& s, const platform::BlockPtr& mine) {
  std::vector<platform::BlockPtr> blocks;
  for (const platform::BlockPtr* theirs : gather(s.all_gather, &mine, s.num_ranks)) blocks.push_back(*theirs);
  for (const platform::BlockPtr& block : blocks)
    if (block != mine) s.device->reach(block);
  return blocks;
}

std::vector<platform::BlockPtr> share_descriptors(const Sharing& s, const platform::BlockPtr& mine) {
  const platform::cpu::UniqueFd exported(s.device->export_descriptor(*mine));
  auto descriptors = HandleExchange(s.all_gather, s.rank, s.num_ranks, s.deadline).exchange(exported.get());
  std::vector<platform::BlockPtr> blocks(s.num_ranks);
  for (int r = 0; r < s.num_ranks; ++r)
    blocks[r] = r == s.rank ? mine : s.device->import_descriptor(descriptors[r].get(), mine->bytes());
  return blocks;
}

std::vector<platform::BlockPtr> share_handles(const Sharing& s, const platform::BlockPtr& mine) {
  SharedHandle handle{};
  const std::string exported = s.device->export_handle(*mine);
  std::memcpy(handle.bytes, exported.data(), std::min(exported.size(), sizeof handle.bytes));
  const auto handles = gather(s.all_gather, handle, s.num_ranks);
  std::vector<platform::BlockPtr> blocks(s.num_ranks);
  for (int r = 0; r < s.num_ranks; ++r)
    blocks[r] = r == s.rank ? mine : s.device->import_handle(std::string(handles[r].bytes, 64), mine->bytes());
  return blocks;
}

}  // namespace

void agree(const Sharing& s, const std::string& failure, const char* what, StatusCode code) {
  Verdict mine{{}, code};
  std::strncpy(mine.failure, failure.c_str(), sizeof mine.failure - 1);
  const auto all = gather(s.all_gather, mine, s.num_ranks);
  if (!failure.empty()) raise(code, failure);
  for (int r = 0; r < s.num_ranks; ++r)
    if (all[r].failure[0])
      raise(all[r].code, std::string(what) + ": rank " + std::to_string(r) + " failed: " + all[r].failure);
}

PeerMemory PeerMemory::create(const Sharing& s, std::uint64_t bytes, const char* what) {
  PeerMemory memory;
  memory.rank_ = s.rank;
  platform::BlockPtr mine;
  std::string failure;
  try {
    mine = s.device->allocate(bytes, !s.one_process);
  } catch (const Error& error) {
    failure = error.what();
  }
  agree(s, failure, what);
  try {
    memory.blocks_ = s.one_process                                         ? share_references(s, mine)
                     : s.device->share_by() == platform::Share::descriptor ? share_descriptors(s, mine)
                                                                           : share_handles(s, mine);
  } catch (const PeerLostError&) {
    throw;  // the gathering itself has failed: no rank can be told
  } catch (const Error& error) {
    failure = error.what();
  }
  agree(s, failure, what);  // also keeps every rank's reference alive until all have copied it
  return memory;
}

Peers PeerMemory::peers() const {
  Peers peers{};
  for (std::size_t r = 0; r < blocks_.size(); ++r) peers.base[r] = blocks_[r]->data();
  peers.rank = rank_;
  peers.num_ranks = static_cast<int>(blocks_.size());
  return peers;
}

}  // namespace crossdock::memory
