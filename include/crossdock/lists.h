/* SPDX-License-Identifier: Apache-2.0 */
/* Every enumeration of Crossdock, as a list of macros. C and C++ names, CLI flags, JSON keys and tests are made from
 * these lists, and tests compare the tables of the documentation with them. `name` is the spelling in C++, JSON and the
 * CLI, `NAME` the end of the C constant. Plain C. */
#ifndef CROSSDOCK_LISTS_H
#define CROSSDOCK_LISTS_H

/* name, NAME, bits per element, largest finite value, what it is */
#define XD_DTYPES(X)                                                           \
  X(bf16, BF16, 16, 3.3895313892515355e38, "bfloat16")                         \
  X(f16, F16, 16, 65504.0, "IEEE 754 binary16")                                \
  X(f32, F32, 32, 3.4028234663852886e38, "IEEE 754 binary32")                  \
  X(fp8_e4m3, FP8_E4M3, 8, 448.0, "OCP fp8 e4m3: no infinity, NaN 0x7f")       \
  X(fp8_e4m3fnuz, FP8_E4M3FNUZ, 8, 240.0, "fp8 e4m3 FNUZ: one zero, NaN 0x80") \
  X(fp4_e2m1, FP4_E2M1, 4, 6.0, "OCP fp4 e2m1: two per byte, low nibble first, no NaN")

/* name, NAME, shape of the received rows */
#define XD_LAYOUTS(X)                                                            \
  X(token_major, TOKEN_MAJOR, "[rows, hidden]: one row per (token, this rank)")  \
  X(expert_major, EXPERT_MAJOR, "[local experts, capacity, hidden] with counts") \
  X(contiguous, CONTIGUOUS, "[rows, hidden] with offsets, each expert padded")

/* name, NAME, source of the rows that combine sums */
#define XD_PATHS(X)                                                       \
  X(staged, STAGED, "rows lie in the caller's memory")                    \
  X(zero_copy, ZERO_COPY, "rows lie in the buffer that the library owns") \
  X(fused, FUSED, "the caller's kernel has written its partial rows to the home ranks")

/* name, NAME, form of combine's rows on the link */
#define XD_COMBINE_QUANTS(X)                                                    \
  X(none, NONE, "the rows' own type")                                           \
  X(fp8_direct_cast, FP8_DIRECT_CAST, "bf16 or f16 cast to e4m3 OCP, no scale") \
  X(fp8_blockwise, FP8_BLOCKWISE, "e4m3 OCP with one power of two per 128 elements")

/* name, NAME, what happens to rows past a capacity */
#define XD_OVERFLOWS(X)                                  \
  X(drop, DROP, "dropped and counted; the call goes on") \
  X(error, ERROR, "dropped and counted; the next call or poll raises `capacity`")

/* name, NAME, meaning. The order is part of the C interface. */
#define XD_STATUSES(X)                                                            \
  X(ok, OK, "all is well")                                                        \
  X(usage, USAGE, "an argument breaks a rule")                                    \
  X(config, CONFIG, "a configuration cannot be served, or differs between ranks") \
  X(state, STATE, "the call does not fit what came before it")                    \
  X(capacity, CAPACITY, "more rows arrived than a capacity admits")               \
  X(topology, TOPOLOGY, "these devices cannot reach each other")                  \
  X(peer_lost, PEER_LOST, "a peer did not answer within the deadline")            \
  X(aborted, ABORTED, "a member of the group called abort")                       \
  X(system, SYSTEM, "the operating system or the driver refused a call")

/* name, NAME, what it is. `automatic` takes the first backend of this list that has a device. */
#define XD_BACKENDS(X)                                              \
  X(automatic, AUTOMATIC, "GPUs where there are any, else the CPU") \
  X(cuda, CUDA, "NVIDIA GPUs")                                      \
  X(hip, HIP, "AMD GPUs")                                           \
  X(cpu, CPU, "threads or processes of this machine")

/* Edges: release/acquire pairs between ranks. name, operation that waits, what holds once the signal is seen.
 * docs/protocol.md and model/ use the same names; a test compares them. */
#define XD_EDGES(X)                                                                   \
  X(none, "-", "no edge")                                                             \
  X(counts, "dispatch", "the sender's row counts; it reads nothing of earlier calls") \
  X(done, "dispatch", "the sender's rows and metadata have all landed")               \
  X(enter, "combine", "the sender reads nothing of the combine before")               \
  X(ready, "combine", "the sender's combine rows are where the home rank reads them") \
  X(poison, "any", "the sender has failed or aborted")

/* Phases of a kernel in a trace: name, operation, what a block does until the next phase. The phase that waits for an
 * edge is called wait_<edge>. */
#define XD_PHASES(X)                                                                              \
  X(begin, "any", "reads its arguments, finds the ranks of its tokens")                           \
  X(publish, "dispatch", "writes its row counts to the peers")                                    \
  X(wait_counts, "dispatch", "waits for the counts of all ranks")                                 \
  X(move, "dispatch", "copies rows and metadata to their slots")                                  \
  X(signal_done, "dispatch", "the last block to arrive signals the peers")                        \
  X(write_plan, "dispatch", "writes its part of the plan; the last block also writes the counts") \
  X(wait_done, "dispatch", "the last block waits for the rows of all ranks")                      \
  X(recount, "dispatch", "after drops: counts the pairs of the rows that were kept")              \
  X(wait_enter, "combine", "waits until the combine slots are free")                              \
  X(send, "combine", "writes rows to the combine slots of their home ranks")                      \
  X(wait_ready, "combine", "arrives, signals the peers, waits for all of them")                   \
  X(reduce, "combine", "sums the rows of its tokens")                                             \
  X(end, "any", "the block has ended")

/* Sources of a call's launch geometry, highest precedence first: name, where the value stands */
#define XD_TUNING_SOURCES(X)                          \
  X(call, "CallOptions of the call")                  \
  X(config, "Config of the exchange")                 \
  X(file, "a tuning file, GroupOptions::tuning_file") \
  X(rule, "the library's own rule")

/* Environment variables: name, default, what it sets */
#define XD_ENVIRONMENT(X)                                                                      \
  X(CROSSDOCK_BACKEND, "automatic", "machine to use where a call leaves the choice")           \
  X(CROSSDOCK_DEADLINE_MS, "30000", "longest wait for a peer; 0 = no limit")                   \
  X(CROSSDOCK_IPC, "automatic", "GPUs: `vmm` or `ipc` memory between processes")               \
  X(CROSSDOCK_RUNTIME_DIR, "$XDG_RUNTIME_DIR or /tmp", "where rendezvous sockets live")        \
  X(CROSSDOCK_TUNING_FILE, "none", "geometries that `crossdock tune` has found")               \
  X(CROSSDOCK_PACKET_TOKENS, "0", "config.max_tokens_per_rank up to which rows go in packets") \
  X(CROSSDOCK_PLUGIN_DIR, "beside the library", "where backend plug-ins are looked up")

/* ranks of a group, and ids of a token, at most */
#define XD_MAX_RANKS 8
#define XD_MAX_TOPK 64
#endif
