// The element types of arrays, and of per-channel vectors.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include "dispatch/kernel_table.h"

namespace batchnorm {

enum class Order { kForward, kBackward };

enum class DType { kFloat32, kFloat64 };

// Calls f with a value of the C++ type that stands for `dtype`. The one place where a type known when called becomes
// one known when compiled.
template <class F>
decltype(auto) Visit(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return std::forward<F>(f)(float{});
    case DType::kFloat64:
      break;
  }
  return std::forward<F>(f)(double{});
}

inline std::size_t ItemSize(DType dtype) {
  return Visit(dtype, [](auto zero) { return sizeof zero; });
}

inline const Kernels<float>& KernelsOf(const KernelTable& table, float) { return table.f32; }
inline const Kernels<double>& KernelsOf(const KernelTable& table, double) { return table.f64; }

// An array in memory: extents in elements, strides in bytes, of any sign.
struct ArrayView {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::size_t ndim = 0;
  const std::ptrdiff_t* extents = nullptr;
  const std::ptrdiff_t* strides = nullptr;
};

// One value per channel, float32 or float64, any stride, any alignment; absent where data is null. Read and written as
// float64: parameters are small, so their type costs nothing.
struct ChannelVector {
  void* data = nullptr;
  DType dtype = DType::kFloat64;
  std::ptrdiff_t stride = 0;

  explicit operator bool() const { return data != nullptr; }

  double Get(std::size_t channel) const {
    return Visit(dtype, [&](auto value) {
      std::memcpy(&value, At(channel), sizeof value);
      return static_cast<double>(value);
    });
  }
  double GetOr(std::size_t channel, double otherwise) const { return data ? Get(channel) : otherwise; }

  void Set(std::size_t channel, double v) const {
    Visit(dtype, [&](auto value) {
      value = static_cast<decltype(value)>(v);
      std::memcpy(At(channel), &value, sizeof value);
    });
  }

 private:
  char* At(std::size_t channel) const {
    return static_cast<char*>(data) + static_cast<std::ptrdiff_t>(channel) * stride;
  }
};

}  // namespace batchnorm
