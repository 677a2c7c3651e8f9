// Arrays of Python, checked: what is not as expected is a ValueError that says so.
#pragma once

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "array.hpp"
#include "kernels.hpp"
#include "processor.hpp"

namespace unrolled {

enum class Number { kFloat32, kBfloat16, kHalf, kInt64, kInt8, kByte, kFloat64 };

inline bool is(const Array& array, Number number) {
  const nb::dlpack::dtype type = array.dtype();
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  using Code = nb::dlpack::dtype_code;
  switch (number) {
    case Number::kFloat32: return code == Code::Float && type.bits == 32;
    case Number::kFloat64: return code == Code::Float && type.bits == 64;
    case Number::kHalf: return code == Code::Float && type.bits == 16;
    case Number::kBfloat16: return code == Code::Bfloat && type.bits == 16;
    case Number::kInt64: return code == Code::Int && type.bits == 64;
    case Number::kInt8: return code == Code::Int && type.bits == 8;
    case Number::kByte: return (code == Code::Bool || code == Code::UInt) && type.bits == 8;
  }
  return false;
}

inline const char* name_of(Number number) {
  switch (number) {
    case Number::kFloat32: return "float32";
    case Number::kFloat64: return "float64";
    case Number::kHalf: return "float16";
    case Number::kBfloat16: return "bfloat16";
    case Number::kInt64: return "int64";
    case Number::kInt8: return "int8";
    case Number::kByte: return "bool";
  }
  return "";
}

// The numbers of an array that has this type and shape; ValueError otherwise. A size of -1 may be anything.
inline void* numbers(const Array& array, const char* name, Number number, std::initializer_list<long> shape) {
  bool right = is(array, number) && array.ndim() == shape.size();
  std::size_t axis = 0;
  std::string wanted;
  for (long size : shape) {
    right = right && (size < 0 || array.shape(axis) == static_cast<std::size_t>(size));
    wanted += (axis++ ? ", " : "") + (size < 0 ? std::string("any") : std::to_string(size));
  }
  if (!right) {
    std::string came;
    for (std::size_t i = 0; i < array.ndim(); ++i) came += (i ? ", " : "") + std::to_string(array.shape(i));
    throw nb::value_error((std::string(name) + " must be contiguous " + name_of(number) + " (" + wanted + "); got (" + came +
                           ") of " + std::to_string(array.dtype().bits) + " bits.")
                              .c_str());
  }
  return array.data();
}

inline void* numbers(const std::optional<Array>& array, const char* name, Number number, std::initializer_list<long> shape) {
  return array ? numbers(*array, name, number, shape) : nullptr;
}

constexpr long kLargest = 1L << 20;

inline int rounded_up(long value, int to) { return static_cast<int>((value + to - 1) / to * to); }

using Maybe = std::optional<Array>;

inline void require(bool holds, const char* message) {
  if (!holds) throw nb::value_error(message);
}

inline void check_threads(int threads) { require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024."); }

// The kernels for an array's type, which is float32 or bfloat16; ValueError where there are none.
inline const LayerKernels& kernels_for(const Array& array) {
  const LayerKernels& found = is(array, Number::kBfloat16) ? kernels().bfloat16 : kernels().float32;
  require(found.forward != nullptr, "This processor has no products in bfloat16.");
  return found;
}

inline Number type_of(const Array& array) { return is(array, Number::kBfloat16) ? Number::kBfloat16 : Number::kFloat32; }

inline const float* floats(const Array& array, const char* name, std::initializer_list<long> shape) {
  return static_cast<const float*>(numbers(array, name, Number::kFloat32, shape));
}

}  // namespace unrolled
