// SPDX-License-Identifier: Apache-2.0
#include "torch_tensor.hpp"

#include <nanobind/stl/string.h>

#include <deque>
#include <string>
#include <utility>

namespace crossdock::python {
namespace {

namespace nb = nanobind;

/// torch's Tensor class and the attribute names that every call looks up. Created once and never destroyed.
struct Torch {
  nb::handle tensor_type;
  nb::handle data_ptr, dtype, shape, is_contiguous, is_cpu, get_device;
  nb::handle raw_stream;  // None in a torch without GPUs
  DlpackExchange exchange;
  std::deque<std::pair<nb::handle, std::string>> dtypes;  // few: a list is searched faster than a map
};

nb::handle interned(const char* name) { return nb::steal(PyUnicode_InternFromString(name)).release(); }

Torch* find_torch() {
  static Torch* found = nullptr;
  if (found) return found;
  const nb::object module = nb::steal(PyImport_GetModule(nb::str("torch").ptr()));
  if (!module.is_valid() || !nb::hasattr(module, "Tensor") || !nb::hasattr(module, "cuda")) {
    PyErr_Clear();
    return nullptr;
  }
  auto* torch = new Torch;
  torch->tensor_type = nb::object(module.attr("Tensor")).release();
  torch->exchange = DlpackExchange(torch->tensor_type);
  torch->data_ptr = interned("data_ptr");
  torch->dtype = interned("dtype");
  torch->shape = interned("shape");
  torch->is_contiguous = interned("is_contiguous");
  torch->is_cpu = interned("is_cpu");
  torch->get_device = interned("get_device");
  const nb::object stream = nb::getattr(module.attr("_C"), "_cuda_getCurrentRawStream", nb::none());
  torch->raw_stream = nb::handle(stream).inc_ref();
  return found = torch;
}

nb::object call(nb::handle object, nb::handle method) { return object.attr(method)(); }

}  // namespace

bool is_torch_tensor(nb::handle object) {
  const Torch* torch = find_torch();
  return torch && PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(torch->tensor_type.ptr()));
}

const DlpackExchange& torch_exchange() {
  static const DlpackExchange none;
  const Torch* torch = find_torch();
  return torch ? torch->exchange : none;
}

bool is_plain_torch_tensor(nb::handle object) {
  const Torch* torch = find_torch();
  return torch && object.type().is(torch->tensor_type);
}

TorchFacts read_torch(nb::handle tensor) {
  Torch& torch = *find_torch();
  TorchFacts facts{};
  const nb::object dtype = tensor.attr(torch.dtype);
  for (const auto& [known, name] : torch.dtypes)
    if (known.is(dtype)) facts.dtype_name = name;
  if (facts.dtype_name.empty()) {
    torch.dtypes.emplace_back(nb::handle(dtype).inc_ref(), nb::str(dtype).c_str());
    facts.dtype_name = torch.dtypes.back().second;
  }
  facts.shape = tensor.attr(torch.shape);
  facts.dense = call(tensor, torch.is_contiguous).is(Py_True);
  facts.on_cpu = nb::object(tensor.attr(torch.is_cpu)).is(Py_True);
  facts.device = facts.on_cpu ? 0 : nb::cast<int>(call(tensor, torch.get_device));
  facts.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(call(tensor, torch.data_ptr)));
  return facts;
}

void* torch_current_stream(int device) {
  const Torch* torch = find_torch();
  if (!torch || torch->raw_stream.is_none()) return nullptr;
  return reinterpret_cast<void*>(nb::cast<std::uintptr_t>(torch->raw_stream(device)));
}

nb::object view_as_torch(nb::handle tensor, const char* dtype) {
  return tensor.attr("view")(nb::module_::import_("torch").attr(dtype));
}

}  // namespace crossdock::python
