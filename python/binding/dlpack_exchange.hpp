// SPDX-License-Identifier: Apache-2.0
// The table of C functions by which a framework exchanges arrays without a call through Python: the DLPackExchangeAPI
// of DLPack 1.2. torch has it from 2.10 on.
#pragma once

#include <nanobind/ndarray.h>

namespace crossdock::python {

struct ExchangeFunctions;

class DlpackExchange {
 public:
  DlpackExchange() = default;
  /// The functions of array class `type`. Empty if it has none, or none of DLPack's major version 1.
  explicit DlpackExchange(nanobind::handle type);

  explicit operator bool() const { return functions_ != nullptr; }
  /// Describes an array whose class is exactly that type. Shape and strides in `out` point into the array, and are
  /// valid until it changes. False if DLPack cannot describe it.
  bool describe(nanobind::handle array, nanobind::dlpack::dltensor& out) const;
  /// An array over `memory`, which must be dense. The array keeps `owner`, the owner of the memory, alive. Strides of
  /// `memory` are not read.
  nanobind::object view(const nanobind::dlpack::dltensor& memory, nanobind::handle owner) const;

 private:
  const ExchangeFunctions* functions_ = nullptr;
};

}  // namespace crossdock::python
