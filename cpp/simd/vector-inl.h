// The operations that every vector type of GCC and Clang shares. An ISA header defines BATCHNORM_VECTOR_BYTES, includes
// this file, and adds what needs an instruction of its own: MulAdd, partial Load and Store, Stream, and promotion.
#pragma once

#include "simd/lanes-inl.h"

#define BATCHNORM_INLINE inline __attribute__((always_inline))

namespace batchnorm::BATCHNORM_ISA {
namespace {

typedef float F32 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef double F64 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = F32;
};
template <>
struct VectorOf<double> {
  using type = F64;
};

template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
constexpr std::size_t kLanes = BATCHNORM_VECTOR_BYTES / sizeof(T);

template <class T>
BATCHNORM_INLINE Vec<T> Set(T value) {
  return value - Vec<T>{};  // x - 0 is x, also for -0, where x + 0 is not
}

template <class T>
BATCHNORM_INLINE Vec<T> Load(const T* p, All) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

BATCHNORM_INLINE void Store(F32 v, float* p, All) { __builtin_memcpy(p, &v, sizeof v); }
BATCHNORM_INLINE void Store(F64 v, double* p, All) { __builtin_memcpy(p, &v, sizeof v); }

template <class T>
BATCHNORM_INLINE Vec<T> LoadUnaligned(const char* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// One element, wherever it lies.
template <class T>
BATCHNORM_INLINE T LoadOne(const char* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
BATCHNORM_INLINE void StoreOne(T v, char* p) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Asks for the cache line of an address, which need not be one that can be read, into L2.
BATCHNORM_INLINE void Prefetch(std::uintptr_t address) {
  __builtin_prefetch(reinterpret_cast<const void*>(address), /*write=*/0, /*locality=*/2);
}

template <class T, class V>
BATCHNORM_INLINE T ReduceSum(V v) {
  T total = v[0];
  for (std::size_t i = 1; i < kLanes<T>; ++i) total += v[i];
  return total;
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
