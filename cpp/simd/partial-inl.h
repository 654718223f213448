// Partial loads and stores, lane by lane, for an ISA without masks. By memcpy: floats may rest in memory of doubles.
#pragma once

#include "simd/vector-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class T, class V>
BATCHNORM_INLINE V LoadLanes(const T* p, First lanes, V fill) {
  for (std::size_t i = 0; i + 1 < kLanes<T>; ++i) {
    T value = fill[i];
    if (i < lanes.count) __builtin_memcpy(&value, p + i, sizeof value);
    fill[i] = value;
  }
  return fill;
}
template <class T, class V>
BATCHNORM_INLINE void StoreLanes(V v, T* p, First lanes) {
  for (std::size_t i = 0; i + 1 < kLanes<T>; ++i) {
    const T value = v[i];
    if (i < lanes.count) __builtin_memcpy(p + i, &value, sizeof value);
  }
}

template <class T, class V>
BATCHNORM_INLINE V SelectLanes(First lanes, V a, V b) {
  for (std::size_t i = 0; i + 1 < kLanes<T>; ++i) b[i] = i < lanes.count ? a[i] : b[i];
  return b;
}

// The first lanes of a, the others of b.
BATCHNORM_INLINE F32 Select(First lanes, F32 a, F32 b) { return SelectLanes<float>(lanes, a, b); }
BATCHNORM_INLINE F64 Select(First lanes, F64 a, F64 b) { return SelectLanes<double>(lanes, a, b); }

// Lanes beyond the count take `fill`; their memory isn't touched.
BATCHNORM_INLINE F32 Load(const float* p, First lanes, F32 fill = F32{}) { return LoadLanes(p, lanes, fill); }
BATCHNORM_INLINE F64 Load(const double* p, First lanes, F64 fill = F64{}) { return LoadLanes(p, lanes, fill); }
BATCHNORM_INLINE void Store(F32 v, float* p, First lanes) { StoreLanes(v, p, lanes); }
BATCHNORM_INLINE void Store(F64 v, double* p, First lanes) { StoreLanes(v, p, lanes); }

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
