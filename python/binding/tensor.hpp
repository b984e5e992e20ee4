// SPDX-License-Identifier: Apache-2.0
// An array of the caller's: its memory, type and shape, read without a copy and checked against what a call expects.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "crossdock/types.hpp"

namespace crossdock::python {

/// Elements of arrays: those of the library and the integers around them. `byte` is any one-byte integer.
enum class Element : std::uint8_t { bf16, f16, f32, fp8_e4m3, fp8_e4m3fnuz, fp4_pair, byte, i32, i64, other };

/// The framework of the arrays that a call gets, and in which it returns arrays.
enum class Framework : std::uint8_t { numpy, torch, dlpack };

constexpr int kMaxDims = 4;

struct Tensor {
  void* data = nullptr;
  Element element = Element::other;
  std::string element_name;  // only of `other`, for texts
  int item_bytes = 0;
  int num_dims = 0;
  std::array<std::int64_t, kMaxDims> shape{};
  bool read_only = false;
  bool on_cpu = true;
  int device = 0;  // ordinal, of a GPU
  Framework framework = Framework::numpy;

  std::string shape_text() const;
  std::string element_text() const;
};

/// The element of rows of `dtype`; fp4 rows hold pairs.
Element element_of(Dtype dtype);

/// The call that reads an argument, for error texts and device checks.
struct Caller {
  const char* call;
  int rank;
  BackendKind backend;
  int device;
  std::optional<StreamHandle> stream{};  // on which the call will run, where that is known

  std::string text(const char* argument) const;
};

/// Reads `object` (torch, numpy, the CUDA array interface, DLPack). UsageError if it is no array, not dense, or not on
/// the device of this rank.
Tensor read_tensor(nanobind::handle object, const Caller& caller, const char* argument);

/// UsageError unless the elements are one of `elements`.
void expect_element(const Tensor& tensor, std::initializer_list<Element> elements, const Caller& caller,
                    const char* argument, const char* rule);
/// UsageError unless the tensor is [rows, columns].
void expect_matrix(const Tensor& tensor, std::int64_t rows, std::int64_t columns, const Caller& caller,
                   const char* argument, const char* rule);

/// Reads rows of `dtype` and `hidden` elements; fp8 and fp4 also as bytes. The number of rows is free.
Tensor read_rows(nanobind::handle object, Dtype dtype, std::int64_t hidden, const Caller& caller, const char* argument);

/// An array over the library's memory, in the caller's framework. The array keeps `owner` alive.
nanobind::object make_view(const void* data, Element element, std::initializer_list<std::int64_t> shape,
                           const Caller& caller, Framework framework, nanobind::handle owner);

/// A fresh array of the framework, on the caller's device.
nanobind::object make_empty(Element element, std::int64_t rows, std::int64_t columns, const Caller& caller,
                            Framework framework);

}  // namespace crossdock::python
