// Checks of arguments from Python: dtype, shape and bounds. A wrong argument is a ValueError that says what was
// expected.
#pragma once

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "bindings/dlpack_array.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

namespace unrolled {

enum class DType { kFloat32, kBfloat16, kHalf, kInt64, kInt8, kByte, kFloat64 };

inline bool has_dtype(const Array& array, DType number) {
  const nb::dlpack::dtype type = array.dtype();
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  using Code = nb::dlpack::dtype_code;
  switch (number) {
    case DType::kFloat32:
      return code == Code::Float && type.bits == 32;
    case DType::kFloat64:
      return code == Code::Float && type.bits == 64;
    case DType::kHalf:
      return code == Code::Float && type.bits == 16;
    case DType::kBfloat16:
      return code == Code::Bfloat && type.bits == 16;
    case DType::kInt64:
      return code == Code::Int && type.bits == 64;
    case DType::kInt8:
      return code == Code::Int && type.bits == 8;
    case DType::kByte:
      return (code == Code::Bool || code == Code::UInt) && type.bits == 8;
  }
  return false;
}

inline const char* dtype_name(DType number) {
  switch (number) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kHalf:
      return "float16";
    case DType::kBfloat16:
      return "bfloat16";
    case DType::kInt64:
      return "int64";
    case DType::kInt8:
      return "int8";
    case DType::kByte:
      return "bool";
  }
  return "";
}

// The numbers of an array that has this type and shape; ValueError otherwise. A size of -1 may be anything.
inline void* checked_data(const Array& array, const char* name, DType number, std::initializer_list<long> shape) {
  bool matches = has_dtype(array, number) && array.ndim() == shape.size();
  std::size_t axis = 0;
  std::string expected;
  for (long size : shape) {
    matches = matches && (size < 0 || array.shape(axis) == static_cast<std::size_t>(size));
    expected += (axis++ ? ", " : "") + (size < 0 ? std::string("any") : std::to_string(size));
  }
  if (!matches) {
    std::string received;
    for (std::size_t i = 0; i < array.ndim(); ++i) received += (i ? ", " : "") + std::to_string(array.shape(i));
    throw nb::value_error((std::string(name) + " must be contiguous " + dtype_name(number) + " (" + expected +
                           "); got (" + received + ") of " + std::to_string(array.dtype().bits) + " bits.")
                              .c_str());
  }
  return array.data();
}

inline void* checked_data(const std::optional<Array>& array, const char* name, DType number,
                          std::initializer_list<long> shape) {
  return array ? checked_data(*array, name, number, shape) : nullptr;
}

constexpr long kMaxSize = 1L << 20;

inline int round_up(long value, int to) { return static_cast<int>((value + to - 1) / to * to); }

using OptionalArray = std::optional<Array>;

inline void require(bool holds, const char* message) {
  if (!holds) throw nb::value_error(message);
}

inline void check_threads(int threads) { require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024."); }

// The kernels for an array's type, which is float32 or bfloat16; ValueError where there are none.
inline const LayerKernels& layer_kernels_for(const Array& array) {
  const LayerKernels& table = has_dtype(array, DType::kBfloat16) ? kernels().bfloat16 : kernels().float32;
  require(table.forward != nullptr, "This processor has no products in bfloat16.");
  return table;
}

inline DType kernel_dtype(const Array& array) {
  return has_dtype(array, DType::kBfloat16) ? DType::kBfloat16 : DType::kFloat32;
}

inline const float* float_data(const Array& array, const char* name, std::initializer_list<long> shape) {
  return static_cast<const float*>(checked_data(array, name, DType::kFloat32, shape));
}

}  // namespace unrolled
