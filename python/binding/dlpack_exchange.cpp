// SPDX-License-Identifier: Apache-2.0
#include "dlpack_exchange.hpp"

#include <memory>
#include <vector>

namespace crossdock::python {

namespace nb = nanobind;

namespace {

struct Version {
  std::uint32_t major, minor;
};

/// DLManagedTensorVersioned.
struct Managed {
  Version version;
  void* context;
  void (*drop)(Managed*);
  std::uint64_t flags;
  nb::dlpack::dltensor tensor;
};

/// A view of the library's memory that a framework owns: DLPack's struct, its shape and strides, and a reference to the
/// owner of the memory.
struct Shown {
  Managed managed{};
  std::vector<std::int64_t> shape, strides;
  nb::object owner;

  Shown(const nb::dlpack::dltensor& memory, nb::handle owner_of_memory)
      : shape(memory.shape, memory.shape + memory.ndim), strides(shape.size(), 1), owner(nb::borrow(owner_of_memory)) {
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    managed = {{1, 0}, this, drop, 0, memory};
    managed.tensor.shape = shape.data();
    managed.tensor.strides = strides.data();
  }
  static void drop(Managed* managed) {  // from any thread
    auto* shown = static_cast<Shown*>(managed->context);
    if (!Py_IsInitialized()) return;  // the process ends, and its memory with it
    const nb::gil_scoped_acquire gil;
    delete shown;
  }
};

}  // namespace

/// DLPackExchangeAPI, of major version 1.
struct ExchangeFunctions {
  Version version;
  const ExchangeFunctions* older;
  void* allocate;
  void* keep;
  int (*show)(Managed*, void** array);  // takes ownership of the Managed
  int (*describe)(void* array, nb::dlpack::dltensor*);
  void* current_stream;
};

DlpackExchange::DlpackExchange(nb::handle type) {
  const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (capsule.is_none()) return;
  auto* functions = static_cast<const ExchangeFunctions*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!functions) PyErr_Clear();  // a capsule of another name
  while (functions && functions->version.major != 1) functions = functions->older;
  if (functions && functions->describe) functions_ = functions;
}

bool DlpackExchange::describe(nb::handle array, nb::dlpack::dltensor& out) const {
  if (functions_->describe(array.ptr(), &out) == 0) return true;
  PyErr_Clear();
  return false;
}

nb::object DlpackExchange::view(const nb::dlpack::dltensor& memory, nb::handle owner) const {
  auto shown = std::make_unique<Shown>(memory, owner);
  void* array = nullptr;
  if (functions_->show(&shown.release()->managed, &array) != 0) nb::raise_python_error();
  return nb::steal(static_cast<PyObject*>(array));
}

}  // namespace crossdock::python
