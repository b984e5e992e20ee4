// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "crossdock/group.hpp"

#include "tensor.hpp"

namespace crossdock::python {

/// A Group, with copies of the properties that calls need. In a forked child the Group is neither used nor destroyed.
class PyGroup {
 public:
  PyGroup(int rank, int num_ranks, nanobind::handle meeting, const GroupOptions& options);
  ~PyGroup();
  PyGroup(const PyGroup&) = delete;
  PyGroup& operator=(const PyGroup&) = delete;

  Group& use(const char* call) const {
    check(call);
    return *group_;
  }
  void check(const char* call) const;
  void close();
  bool closed() const { return closed_; }
  Caller caller(const char* call) const { return {call, rank, backend, device}; }
  bool forked() const;

  int rank, num_ranks, device = 0;
  BackendKind backend = BackendKind::cpu;

 private:
  std::unique_ptr<Group> group_;
  unsigned forks_;
  bool closed_ = false;
};

/// crossdock.Status.
nanobind::object status_of(const Status& status);

}  // namespace crossdock::python
