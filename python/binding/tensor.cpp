// SPDX-License-Identifier: Apache-2.0
#include "tensor.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string_view>
#include <vector>

#include "crossdock/error.hpp"

#include "binding.hpp"
#include "torch_tensor.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

/// For each element type: its names in Crossdock, torch and numpy, and the bytes of an item.
struct ElementInfo {
  Element element;
  const char* dtype;  // of DTYPES, or null
  const char* torch_name;
  const char* numpy_name;
  int item_bytes;
};
constexpr ElementInfo kElements[] = {
    {Element::bf16, "bf16", "bfloat16", "bfloat16", 2},
    {Element::f16, "f16", "float16", "float16", 2},
    {Element::f32, "f32", "float32", "float32", 4},
    {Element::fp8_e4m3, "fp8_e4m3", "float8_e4m3fn", "float8_e4m3fn", 1},
    {Element::fp8_e4m3fnuz, "fp8_e4m3fnuz", "float8_e4m3fnuz", "float8_e4m3fnuz", 1},
    {Element::byte, nullptr, "uint8", "uint8", 1},
    {Element::byte, nullptr, "int8", "int8", 1},
    {Element::fp4_pair, "fp4_e2m1", "float4_e2m1fn_x2", "uint8", 1},  // numpy has no packed pairs: bytes, as above
    {Element::i32, nullptr, "int32", "int32", 4},
    {Element::i64, nullptr, "int64", "int64", 8},
};

const ElementInfo& info_of(Element element) {
  const ElementInfo* info = kElements;
  while (info->element != element) ++info;
  return *info;
}

const ElementInfo* info_of_name(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const ElementInfo& info : kElements)
    if (name == info.torch_name || name == info.numpy_name) return &info;
  return nullptr;
}

void set_element(Tensor& tensor, std::string_view name) {
  const ElementInfo* info = info_of_name(name);
  tensor.element = info ? info->element : Element::other;
  tensor.item_bytes = info ? info->item_bytes : 0;
  if (!info) tensor.element_name = name.starts_with("torch.") ? name.substr(6) : name;
}

int dims_of(std::size_t dims, const Caller& caller, const char* argument) {
  if (dims > kMaxDims)
    throw UsageError(caller.text(argument) + " has " + std::to_string(dims) + " dimensions; at most 4 are read");
  return static_cast<int>(dims);
}

void set_shape(Tensor& tensor, nb::handle shape, const Caller& caller, const char* argument) {
  tensor.num_dims = dims_of(nb::len(shape), caller, argument);
  for (int i = 0; i < tensor.num_dims; ++i) tensor.shape[i] = nb::cast<std::int64_t>(shape[i]);
}

[[noreturn]] void not_dense(const Caller& caller, const char* argument, const std::string& strides) {
  throw UsageError(caller.text(argument) + " is not dense: strides " + strides + "; pass " + argument +
                   ".contiguous() or a copy");
}

Tensor read_numpy(nb::handle array, const Caller& caller, const char* argument) {
  Tensor tensor;
  set_element(tensor, nb::cast<std::string>(array.attr("dtype").attr("name")));
  if (!tensor.item_bytes) tensor.item_bytes = nb::cast<int>(array.attr("itemsize"));
  set_shape(tensor, array.attr("shape"), caller, argument);
  if (!nb::cast<bool>(array.attr("dtype").attr("isnative")))
    throw UsageError(caller.text(argument) + " has the byte order of another machine, dtype " +
                     nb::repr(array.attr("dtype").attr("str")).c_str() + "; pass " + argument + ".astype(" + argument +
                     ".dtype.newbyteorder('='))");
  const nb::object flags = array.attr("flags");
  if (!nb::cast<bool>(flags.attr("c_contiguous"))) not_dense(caller, argument, nb::repr(array.attr("strides")).c_str());
  tensor.read_only = !nb::cast<bool>(flags.attr("writeable"));
  tensor.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(array.attr("ctypes").attr("data")));
  return tensor;
}

std::string_view name_of_code(const nb::dlpack::dtype& dtype) {
  using nb::dlpack::dtype_code;
  switch (static_cast<dtype_code>(dtype.code)) {
    case dtype_code::Bfloat:
      return "bfloat16";
    case dtype_code::Float:
      return dtype.bits == 16 ? "float16" : dtype.bits == 32 ? "float32" : "float64";
    case dtype_code::Float8_E4M3FN:
      return "float8_e4m3fn";
    case dtype_code::Float8_E4M3FNUZ:
      return "float8_e4m3fnuz";
    case dtype_code::Float4_E2M1FN:
      return dtype.lanes == 2 ? "float4_e2m1fn_x2" : "float4_e2m1fn";
    case dtype_code::Int:
      return dtype.bits == 8 ? "int8" : dtype.bits == 32 ? "int32" : dtype.bits == 64 ? "int64" : "int16";
    case dtype_code::UInt:
      return dtype.bits == 8 ? "uint8" : "an unsigned integer";
    default:
      return "a type without a name here";
  }
}

/// "(256, 1)", in elements.
std::string strides_text(const nb::dlpack::dltensor& array) {
  std::string text;
  for (int i = 0; i < array.ndim; ++i) text += (i ? ", " : "(") + std::to_string(array.strides[i]);
  return text + ")";
}

Tensor tensor_of(const nb::dlpack::dltensor& array, const Caller& caller, const char* argument) {
  Tensor tensor;
  set_element(tensor, name_of_code(array.dtype));
  tensor.item_bytes = (array.dtype.bits * array.dtype.lanes + 7) / 8;
  tensor.num_dims = dims_of(static_cast<std::size_t>(array.ndim), caller, argument);
  std::int64_t step = 1;
  bool dense = true, empty = false;
  for (int i = tensor.num_dims - 1; i >= 0; --i) {
    tensor.shape[i] = array.shape[i];
    dense = dense && (array.shape[i] <= 1 || array.strides[i] == step);
    empty = empty || array.shape[i] == 0;
    step *= array.shape[i];
  }
  if (!dense && !empty) not_dense(caller, argument, strides_text(array));
  tensor.data = static_cast<std::byte*>(array.data) + array.byte_offset;
  const int type = array.device.device_type;
  tensor.on_cpu = type == nb::device::cpu::value || type == nb::device::cuda_host::value;
  tensor.device = array.device.device_id;
  return tensor;
}

Tensor read_dlpack(nb::handle object, const Caller& caller, const char* argument) {
  nb::ndarray<nb::ro> array;
  nb::ndarray<> writable;
  const bool may_write = nb::try_cast(object, writable, false);  // fails if the array is read-only
  if (may_write)
    array = nb::ndarray<nb::ro>(writable);
  else if (!nb::try_cast(object, array, false))
    throw UsageError(caller.text(argument) + " is a " + nb::type_name(object.type()).c_str() +
                     "; pass a tensor: torch, numpy, or what has DLPack or the CUDA array interface");
  Tensor tensor = tensor_of({const_cast<void*>(array.data()),
                             {array.device_type(), array.device_id()},
                             static_cast<std::int32_t>(array.ndim()),
                             array.dtype(),
                             const_cast<std::int64_t*>(array.shape_ptr()),
                             const_cast<std::int64_t*>(array.stride_ptr()),
                             0},
                            caller, argument);
  tensor.framework = Framework::dlpack;
  tensor.read_only = !may_write;
  return tensor;
}

Tensor read_torch_tensor(nb::handle object, const Caller& caller, const char* argument) {
  nb::dlpack::dltensor described;
  Tensor tensor;
  if (torch_exchange() && is_plain_torch_tensor(object) && torch_exchange().describe(object, described))
    tensor = tensor_of(described, caller, argument);
  if (tensor.element == Element::other) {  // not read yet, or a type that error texts name as torch does
    const TorchFacts facts = read_torch(object);
    set_element(tensor, facts.dtype_name);
    if (!tensor.item_bytes) tensor.item_bytes = nb::cast<int>(object.attr("element_size")());
    set_shape(tensor, facts.shape, caller, argument);
    if (!facts.dense) not_dense(caller, argument, nb::repr(object.attr("stride")()).c_str());
    tensor.data = facts.data;
    tensor.on_cpu = facts.on_cpu;
    tensor.device = facts.device;
  }
  tensor.framework = Framework::torch;
  return tensor;
}

/// Version 3 of the CUDA array interface has the stream that writes the array; a reader must run after that work.
/// UsageError unless the call runs on that stream.
void check_written_before(const nb::dict& face, const Caller& caller, const char* argument) {
  if (!caller.stream || caller.backend == BackendKind::cpu || !face.contains("stream")) return;
  const nb::object stream = nb::borrow(face["stream"]);
  if (stream.is_none()) return;                 // nothing to wait for
  constexpr std::uintptr_t kLegacyDefault = 1;  // which is the null stream, too
  const auto written = nb::cast<std::uintptr_t>(stream), runs = reinterpret_cast<std::uintptr_t>(*caller.stream);
  if (written == runs || (written == kLegacyDefault && runs == 0)) return;
  throw UsageError(caller.text(argument) + " is written on stream " + std::to_string(written) +
                   " as its __cuda_array_interface__ says, the call runs on stream " + std::to_string(runs) +
                   "; pass stream=" + std::to_string(written) + ", or synchronise and pass the array by DLPack");
}

/// CuPy, Numba and others of their kind, where DLPack is missing or slower.
Tensor read_cuda_interface(nb::handle object, const Caller& caller, const char* argument) {
  const nb::dict face = nb::cast<nb::dict>(object.attr("__cuda_array_interface__"));
  check_written_before(face, caller, argument);
  Tensor tensor;
  tensor.framework = Framework::dlpack;
  tensor.on_cpu = false;
  tensor.device = caller.device;  // the interface names none; the library asks the driver whose pointer it is
  const std::string type = nb::cast<std::string>(face["typestr"]);
  const std::string_view name = type == "<f2"   ? "float16"
                                : type == "<f4" ? "float32"
                                : type == "<i4" ? "int32"
                                : type == "<i8" ? "int64"
                                : type == "|u1" ? "uint8"
                                : type == "|i1" ? "int8"
                                                : std::string_view(type);
  set_element(tensor, name);
  if (!tensor.item_bytes) tensor.item_bytes = std::atoi(type.c_str() + 2);
  set_shape(tensor, face["shape"], caller, argument);
  std::int64_t step = tensor.item_bytes;
  const nb::object strides = face.contains("strides") ? nb::object(face["strides"]) : nb::none();
  for (int i = tensor.num_dims - 1; !strides.is_none() && i >= 0; --i) {
    if (tensor.shape[i] > 1 && nb::cast<std::int64_t>(strides[i]) != step)
      not_dense(caller, argument, nb::str(strides).c_str());
    step *= tensor.shape[i];
  }
  const nb::tuple data = nb::cast<nb::tuple>(face["data"]);
  tensor.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(data[0]));
  tensor.read_only = nb::cast<bool>(data[1]);
  return tensor;
}

void check_device(const Tensor& tensor, const Caller& caller, const char* argument) {
  const bool cpu_group = caller.backend == BackendKind::cpu;
  if (tensor.on_cpu != cpu_group)
    throw UsageError(caller.text(argument) + " is on " + (tensor.on_cpu ? "the CPU" : "a GPU") + ", the group on " +
                     std::string(name_of(caller.backend)) + "; move it, or make the group with another backend");
  if (!tensor.on_cpu && tensor.device != caller.device)
    throw UsageError(caller.text(argument) + " is on device " + std::to_string(tensor.device) +
                     ", this rank on device " + std::to_string(caller.device) +
                     "; move it, or give the group another device");
}

bool is_numpy(nb::handle object) {
  static nb::handle type;  // kept for ever
  if (!type.is_valid()) {
    const nb::object numpy = nb::borrow(PyImport_GetModule(nb::str("numpy").ptr()));
    if (!numpy.is_valid() || !nb::hasattr(numpy, "ndarray")) return false;
    type = nb::object(numpy.attr("ndarray")).release();
  }
  return PyObject_IsInstance(object.ptr(), type.ptr()) == 1;
}

/// The DLPack type with which views are created. fp8 and fp4 are bytes, which every version of the frameworks accepts.
nb::dlpack::dtype dlpack_of(Element element, const ElementInfo& info) {
  using nb::dlpack::dtype_code;
  const bool is_float = element == Element::f16 || element == Element::f32;
  const auto code = element == Element::bf16 ? dtype_code::Bfloat
                    : is_float               ? dtype_code::Float
                    : info.item_bytes == 1   ? dtype_code::UInt
                                             : dtype_code::Int;
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(info.item_bytes * 8), 1};
}

bool is_one_byte_float(Element element) {
  return element == Element::fp8_e4m3 || element == Element::fp8_e4m3fnuz || element == Element::fp4_pair;
}

nb::object helper(const char* name) { return nb::module_::import_("crossdock._views").attr(name); }

}  // namespace

Element element_of(Dtype dtype) {
  for (const ElementInfo& info : kElements)
    if (info.dtype && name_of(dtype) == info.dtype) return info.element;
  throw UsageError("the dtype " + std::string(name_of(dtype)) + " has no arrays in Python");
}

nb::object dtype_name_of(nb::handle dtype) {
  if (nb::isinstance<nb::str>(dtype)) return nb::borrow(dtype);
  std::string name = nb::str(dtype).c_str();
  if (nb::hasattr(dtype, "name"))
    name = nb::cast<std::string>(dtype.attr("name"));
  else if (nb::hasattr(dtype, "__name__"))
    name = nb::cast<std::string>(dtype.attr("__name__"));
  if (name == "float4_e2m1fn") name = "float4_e2m1fn_x2";  // ml_dtypes' name of one element; rows hold pairs
  const ElementInfo* info = info_of_name(name);
  return info && info->dtype ? nb::object(nb::str(info->dtype)) : nb::object(nb::str(name.c_str()));
}

std::string Tensor::shape_text() const {
  std::string text = "[";
  for (int i = 0; i < num_dims; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string Tensor::element_text() const {
  return element == Element::other ? element_name : info_of(element).torch_name;
}

std::string Caller::text(const char* argument) const {
  return std::string(call) + " on rank " + std::to_string(rank) + ": " + argument;
}

Tensor read_tensor(nb::handle object, const Caller& caller, const char* argument) {
  Tensor tensor;
  if (is_torch_tensor(object)) {
    tensor = read_torch_tensor(object, caller, argument);
  } else if (is_numpy(object)) {
    tensor = read_numpy(object, caller, argument);
  } else if (nb::hasattr(object, "__cuda_array_interface__")) {
    tensor = read_cuda_interface(object, caller, argument);
  } else {
    tensor = read_dlpack(object, caller, argument);
  }
  check_device(tensor, caller, argument);
  std::int64_t count = 1;
  for (int i = 0; i < tensor.num_dims; ++i) count *= tensor.shape[i];
  if (!tensor.data && count)
    throw UsageError(caller.text(argument) + " of shape " + tensor.shape_text() +
                     " has no memory; was it freed early, or is it a meta tensor?");
  return tensor;
}

void expect_element(const Tensor& tensor, std::initializer_list<Element> elements, const Caller& caller,
                    const char* argument, const char* rule) {
  for (const Element element : elements)
    if (tensor.element == element) return;
  std::string names;
  for (const Element element : elements)
    names += std::string(names.empty() ? "" : " or ") + info_of(element).torch_name;
  throw UsageError(caller.text(argument) + " is of " + tensor.element_text() + "; must be " + names + " (" + rule +
                   ")");
}

void expect_matrix(const Tensor& tensor, std::int64_t rows, std::int64_t columns, const Caller& caller,
                   const char* argument, const char* rule) {
  if (tensor.num_dims == 2 && (rows < 0 || tensor.shape[0] == rows) && tensor.shape[1] == columns) return;
  throw UsageError(caller.text(argument) + " has shape " + tensor.shape_text() + "; must be [" +
                   (rows < 0 ? "rows" : std::to_string(rows)) + ", " + std::to_string(columns) + "] (" + rule + ")");
}

Tensor read_rows(nb::handle object, Dtype dtype, std::int64_t hidden, const Caller& caller, const char* argument) {
  Tensor tensor = read_tensor(object, caller, argument);
  const Element own = element_of(dtype);
  if (bits_of(dtype) <= 8)
    expect_element(tensor, {own, Element::byte}, caller, argument, "the config's dtype, or its bytes");
  else
    expect_element(tensor, {own}, caller, argument, "the config's dtype");
  const std::int64_t columns = bits_of(dtype) <= 8 ? row_bytes_of(dtype, hidden) : hidden;
  if (tensor.num_dims == 3) {  // [experts, capacity, hidden]: the same rows
    tensor.shape = {tensor.shape[0] * tensor.shape[1], tensor.shape[2]};
    tensor.num_dims = 2;
  }
  expect_matrix(tensor, -1, columns, caller, argument,
                "rows of the config's hidden size; fp4 holds two elements a byte");
  return tensor;
}

nb::object make_view(const void* data, Element element, std::initializer_list<std::int64_t> shape, const Caller& caller,
                     Framework framework, nb::handle owner) {
  const ElementInfo& info = info_of(element);
  std::array<std::int64_t, kMaxDims> sizes{};
  std::copy(shape.begin(), shape.end(), sizes.begin());
  const bool on_cpu = caller.backend == BackendKind::cpu;
  const int device_type = on_cpu                               ? nb::device::cpu::value
                          : caller.backend == BackendKind::hip ? nb::device::rocm::value
                                                               : nb::device::cuda::value;
  const nb::dlpack::dltensor memory{const_cast<void*>(data),
                                    {device_type, on_cpu ? 0 : caller.device},
                                    static_cast<std::int32_t>(shape.size()),
                                    dlpack_of(element, info),
                                    sizes.data(),
                                    nullptr,
                                    0};
  const auto array_as = [&]<class Kind>(Kind, nb::dlpack::dtype type) {
    const nb::ndarray<Kind> array(memory.data, shape.size(), reinterpret_cast<const std::size_t*>(sizes.data()), owner,
                                  nullptr, type, device_type, memory.device.device_id);
    return nb::cast(array, nb::rv_policy::reference);
  };
  if (framework == Framework::torch) {
    const nb::object tensor =
        torch_exchange() ? torch_exchange().view(memory, owner) : array_as(nb::pytorch{}, memory.dtype);
    return is_one_byte_float(element) ? view_as_torch(tensor, info.torch_name) : tensor;
  }
  if (framework == Framework::dlpack) return array_as(nb::array_api{}, memory.dtype);
  // The buffer protocol has no bf16: numpy gets integers of its size and views them as the type.
  const bool exotic = element == Element::bf16 || element == Element::f16;
  const nb::dlpack::dtype plain =
      exotic ? nb::dlpack::dtype{std::uint8_t(nb::dlpack::dtype_code::Int), 16, 1} : memory.dtype;
  return helper("numpy_of")(array_as(nb::array_api{}, plain), info.numpy_name);
}

nb::object make_empty(Element element, std::int64_t rows, std::int64_t columns, const Caller& caller,
                      Framework framework) {
  const ElementInfo& info = info_of(element);
  if (framework == Framework::torch)
    return caller.backend == BackendKind::cpu ? helper("torch_empty")(rows, columns, info.torch_name)
                                              : helper("torch_empty")(rows, columns, info.torch_name, caller.device);
  if (framework == Framework::numpy) return helper("numpy_empty")(rows, columns, info.numpy_name);
  throw UsageError(caller.text("out") + " is missing; only torch and numpy arrays are made here: pass one");
}

}  // namespace crossdock::python
