// The element types of arrays, and of per-channel vectors.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "dispatch/kernel_table.h"

namespace batchnorm {

enum class Order { kForward, kBackward };

// Calls f with a value of the C++ type that stands for `dtype`, one that parameters and lanes may have. With
// VisitElement the one place where a type known when called becomes one known when compiled.
template <class F>
decltype(auto) VisitLane(DType dtype, F&& f) {
  if (dtype == DType::kFloat32) return std::forward<F>(f)(float{});
  return std::forward<F>(f)(double{});
}

// One that kernels exist for.
template <class F>
decltype(auto) VisitElement(DType dtype, F&& f) {
  if (dtype == DType::kFloat16) return std::forward<F>(f)(Float16{});
  if (dtype == DType::kBFloat16) return std::forward<F>(f)(BFloat16{});
  return VisitLane(dtype, std::forward<F>(f));
}

// One that kernels for sums exist for.
template <class F>
decltype(auto) VisitSummed(DType dtype, F&& f) {
  if (dtype == DType::kUInt8) return std::forward<F>(f)(std::uint8_t{});
  if (dtype == DType::kInt8) return std::forward<F>(f)(std::int8_t{});
  return VisitElement(dtype, std::forward<F>(f));
}

inline std::size_t ItemSize(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
      return 4;
    case DType::kUInt8:
    case DType::kInt8:
    case DType::kBool:
    case DType::kSign:
      return 1;
    default:
      return 2;
  }
}

inline bool IsInteger(DType dtype) { return DType::kUInt8 <= dtype && dtype <= DType::kInt16; }
inline DType LaneOfDType(DType dtype) { return dtype == DType::kFloat64 ? dtype : DType::kFloat32; }

template <class E>
constexpr DType kDTypeOf = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<double> = DType::kFloat64;
template <>
inline constexpr DType kDTypeOf<Float16> = DType::kFloat16;
template <>
inline constexpr DType kDTypeOf<BFloat16> = DType::kBFloat16;
template <>
inline constexpr DType kDTypeOf<std::uint8_t> = DType::kUInt8;
template <>
inline constexpr DType kDTypeOf<std::int8_t> = DType::kInt8;

inline const Kernels<float>& KernelsOf(const KernelTable& table, float) { return table.f32; }
inline const Kernels<double>& KernelsOf(const KernelTable& table, double) { return table.f64; }
inline const Kernels<Float16>& KernelsOf(const KernelTable& table, Float16) { return table.f16; }
inline const Kernels<BFloat16>& KernelsOf(const KernelTable& table, BFloat16) { return table.bf16; }
inline const Kernels<std::uint8_t>& KernelsOf(const KernelTable& table, std::uint8_t) { return table.u8; }
inline const Kernels<std::int8_t>& KernelsOf(const KernelTable& table, std::int8_t) { return table.i8; }

// Who computes a call: how many threads at most, and whether they take subnormal numbers for 0.
struct Workers {
  int threads;
  bool flush_subnormals = false;
};

// An array in memory: extents in elements, strides in bytes, of any sign.
struct ArrayView {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::size_t ndim = 0;
  const std::ptrdiff_t* extents = nullptr;
  const std::ptrdiff_t* strides = nullptr;
};

// Of all its elements.
inline std::size_t BytesOf(const ArrayView& array) {
  std::size_t bytes = ItemSize(array.dtype);
  for (std::size_t i = 0; i < array.ndim; ++i) bytes *= static_cast<std::size_t>(array.extents[i]);
  return bytes;
}

// The type of the kernels for a call's arrays, null where absent: theirs, if it is one and kernels exist for it; else
// that of their lanes, and arrays of another type are converted. Signs go with any. With a mask
// kernels exist for lanes alone.
inline DType KernelDType(const KernelTable& table, std::initializer_list<const ArrayView*> arrays,
                         const ArrayView* mask = nullptr) {
  const DType first = (*arrays.begin())->dtype;
  const bool half = first == DType::kFloat16 || first == DType::kBFloat16;
  bool same = !IsInteger(first) && !mask && (table.has_half_precisions || !half);
  for (const ArrayView* a : arrays) same = same && (!a || a->dtype == first || a->dtype == DType::kSign);
  return same ? first : LaneOfDType(first);
}

// The same for sums over one array alone.
inline DType SumsDType(const KernelTable& table, const ArrayView& x, const ArrayView* mask) {
  return ItemSize(x.dtype) == 1 && !mask ? x.dtype : KernelDType(table, {&x}, mask);
}

// One value per channel, float32 or float64, any stride (0 for one value that all share), any alignment; absent where
// data is null. Read and written as float64: parameters are small, so their type costs nothing.
struct ChannelVector {
  void* data = nullptr;
  DType dtype = DType::kFloat64;
  std::ptrdiff_t stride = 0;

  explicit operator bool() const { return data != nullptr; }

  double Get(std::size_t channel) const {
    return VisitLane(dtype, [&](auto value) {
      std::memcpy(&value, At(channel), sizeof value);
      return static_cast<double>(value);
    });
  }
  double GetOr(std::size_t channel, double otherwise) const { return data ? Get(channel) : otherwise; }

  // Whether v, as it would be written, is neither NaN nor infinite.
  bool IsFinite(double v) const {
    return VisitLane(dtype, [&](auto value) { return std::isfinite(static_cast<decltype(value)>(v)); });
  }

  void Set(std::size_t channel, double v) const {
    VisitLane(dtype, [&](auto value) {
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
