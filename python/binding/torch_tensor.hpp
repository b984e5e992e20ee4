// SPDX-License-Identifier: Apache-2.0
// torch's tensors and streams, through DLPack's functions if torch has them, else through its Python attributes. No
// torch header, no torch ABI.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>

#include "dlpack_exchange.hpp"

namespace crossdock::python {

struct TorchFacts {
  void* data;
  std::string_view dtype_name;  // "torch.float32"; lives for ever
  nanobind::object shape;
  bool dense;
  bool on_cpu;
  int device;
};

/// False wherever torch was not imported; never imports it.
bool is_torch_tensor(nanobind::handle object);
TorchFacts read_torch(nanobind::handle tensor);
/// DLPack's functions for torch's tensors, subclasses excepted; empty before torch 2.10.
const DlpackExchange& torch_exchange();
bool is_plain_torch_tensor(nanobind::handle object);
/// torch's current stream of a GPU; null where torch is not in use.
void* torch_current_stream(int device);
/// The same memory seen as torch's dtype of that name.
nanobind::object view_as_torch(nanobind::handle tensor, const char* dtype);

}  // namespace crossdock::python
