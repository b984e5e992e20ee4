// SPDX-License-Identifier: Apache-2.0
// The table of C functions by which a framework hands arrays over without a call of Python's: the DLPackExchangeAPI of
// DLPack 1.2. torch has it from 2.10 on.
#pragma once

#include <nanobind/ndarray.h>

namespace crossdock::python {

struct ExchangeFunctions;

class DlpackExchange {
 public:
  DlpackExchange() = default;
  /// What a type of arrays has; empty if nothing, or nothing of the major version known here.
  explicit DlpackExchange(nanobind::handle type);

  explicit operator bool() const { return functions_ != nullptr; }
  /// Describes an array of exactly that type. Shape and strides live as long as the array does not change. False where
  /// DLPack cannot describe it.
  bool describe(nanobind::handle array, nanobind::dlpack::dltensor& out) const;
  /// An array over `memory`, which is dense and lives as long as `owner`. Strides of `memory` are not read.
  nanobind::object view(const nanobind::dlpack::dltensor& memory, nanobind::handle owner) const;

 private:
  const ExchangeFunctions* functions_ = nullptr;
};

}  // namespace crossdock::python
