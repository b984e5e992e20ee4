// SPDX-License-Identifier: Apache-2.0
#include "memory/peer_memory.hpp"

#include <cstring>

#include "crossdock/error.hpp"
#include "memory/bootstrap.hpp"
#include "memory/descriptors.hpp"

namespace crossdock::memory {
namespace {

/// Outcome of a step on one rank; an empty text means success.
struct Verdict {
  char failure[239];
  StatusCode code;
};

/// An IPC handle of the driver, as bytes.
struct SharedHandle {
  char bytes[64];
};

/// Blocks of ranks in this process. The ranks gather the addresses of their shared_ptr and copy these.
void share_references(const Sharing& s, const platform::BlockPtr& mine, std::vector<platform::BlockPtr>& blocks) {
  const auto references = all_gather_value(s.all_gather, s.num_ranks, &mine);
  for (int r = 0; r < s.num_ranks; ++r) {
    if (!s.is_in_process(r)) continue;
    blocks[r] = *references[r];
    if (r != s.rank) s.device->enable_peer_access(blocks[r]);
  }
}

/// Blocks of ranks in other processes, by file descriptors.
void share_descriptors(const Sharing& s, const platform::BlockPtr& mine, std::vector<platform::BlockPtr>& blocks) {
  const platform::system::UniqueFd exported(s.device->export_descriptor(*mine));
  auto descriptors = DescriptorExchange(s.all_gather, s.rank, s.num_ranks, s.deadline).exchange(exported.get());
  for (int r = 0; r < s.num_ranks; ++r)
    if (!s.is_in_process(r)) blocks[r] = s.device->import_descriptor(descriptors[r].get(), mine->bytes());
}

/// Blocks of ranks in other processes, by IPC handles. Most drivers refuse to open a handle in the process that made
/// it, so ranks of one process use share_references.
void share_handles(const Sharing& s, const platform::BlockPtr& mine, std::vector<platform::BlockPtr>& blocks) {
  SharedHandle handle{};
  const std::string exported = s.device->export_handle(*mine);
  std::memcpy(handle.bytes, exported.data(), std::min(exported.size(), sizeof handle.bytes));
  const auto handles = all_gather_value(s.all_gather, s.num_ranks, handle);
  for (int r = 0; r < s.num_ranks; ++r)
    if (!s.is_in_process(r)) blocks[r] = s.device->import_handle(std::string(handles[r].bytes, 64), mine->bytes());
}

}  // namespace

void agree(const Sharing& s, const std::string& failure, const char* what, StatusCode code) {
  Verdict mine{{}, code};
  std::strncpy(mine.failure, failure.c_str(), sizeof mine.failure - 1);
  const auto all = all_gather_value(s.all_gather, s.num_ranks, mine);
  if (!failure.empty()) raise(code, failure);
  for (int r = 0; r < s.num_ranks; ++r)
    if (all[r].failure[0])
      raise(all[r].code, std::string(what) + ": rank " + std::to_string(r) + " failed: " + all[r].failure);
}

PeerMemory PeerMemory::create(const Sharing& s, std::uint64_t bytes, const char* what) {
  PeerMemory memory;
  memory.rank_ = s.rank;
  memory.blocks_.resize(s.num_ranks);
  platform::BlockPtr mine;
  std::string failure;
  try {
    mine = s.device->allocate(bytes, s.one_process() ? platform::Share::none : s.share_mode.share);
  } catch (const Error& error) {
    failure = error.what();
  }
  agree(s, failure, what);
  try {
    share_references(s, mine, memory.blocks_);
    if (!s.one_process())
      (s.share_mode.share == platform::Share::descriptor ? share_descriptors : share_handles)(s, mine, memory.blocks_);
  } catch (const PeerLostError&) {
    throw;  // from the all-gather, which agree() needs too; or from DescriptorExchange, which throws on all ranks
  } catch (const Error& error) {
    failure = error.what();
  }
  agree(s, failure, what);  // `mine`, whose address share_references gathered, must live until every rank has copied it
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
