// The operations that every vector type of GCC and Clang shares. An ISA header defines BATCHNORM_VECTOR_BYTES, includes
// this file, and adds what needs an instruction of its own: MulAdd, partial Load and Store, Stream, and promotion. Last
// it includes narrow-inl.h.
#pragma once

#include "simd/half-inl.h"
#include "simd/lanes-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

typedef float F32 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef double F64 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef std::uint32_t U32 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef std::uint64_t U64 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef std::uint16_t U16 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES / 2)));  // as many as of U32
typedef std::uint8_t U8 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES / 4)));
typedef std::int8_t I8 __attribute__((vector_size(BATCHNORM_VECTOR_BYTES / 4)));
typedef std::uint16_t Words __attribute__((vector_size(BATCHNORM_VECTOR_BYTES)));
typedef std::uint8_t UBytes __attribute__((vector_size(BATCHNORM_VECTOR_BYTES / 2)));  // as many as of words
typedef std::uint8_t Bytes __attribute__((vector_size(16)));  // the most that one instruction shuffles at AVX2
typedef std::int8_t IBytes __attribute__((vector_size(BATCHNORM_VECTOR_BYTES / 2)));

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

template <>
struct VectorOf<std::uint32_t> {
  using type = U32;
};
template <>
struct VectorOf<std::uint64_t> {
  using type = U64;
};
template <>
struct VectorOf<std::uint8_t> {
  using type = Bytes;
};

template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
constexpr std::size_t kLanes = BATCHNORM_VECTOR_BYTES / sizeof(T);
template <>
constexpr std::size_t kLanes<std::uint8_t> = sizeof(Bytes);

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
BATCHNORM_INLINE void Store(Bytes v, std::uint8_t* p, All) { __builtin_memcpy(p, &v, sizeof v); }

template <class T>
BATCHNORM_INLINE Vec<T> LoadUnaligned(const char* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// `then` in lanes where the test holds, else, also where `test` is NaN, `otherwise`.
template <class V>
BATCHNORM_INLINE V IfNotPositive(V test, V then, V otherwise) {
  return test <= V{} ? then : otherwise;
}
template <class Test, class V>
BATCHNORM_INLINE V IfZero(Test test, V then, V otherwise) {
  return test == Test{} ? then : otherwise;
}

// `then` in lanes where a < b, else, also where either is NaN, `otherwise`.
template <class V>
BATCHNORM_INLINE V IfLess(V a, V b, V then, V otherwise) {
  return a < b ? then : otherwise;
}

// Part kPart, of kEach, of a vector of which each lane is repeated kEach times.
template <class T, std::size_t kEach, std::size_t kPart>
BATCHNORM_INLINE Vec<T> Spread(Vec<T> v) {
  decltype(v == v) from{};  // integers of the same size
  for (std::size_t i = 0; i < kLanes<T>; ++i) from[i] = static_cast<int>((kPart * kLanes<T> + i) / kEach);
#if defined(__clang__)
  Vec<T> parts;
  for (std::size_t i = 0; i < kLanes<T>; ++i) parts[i] = v[from[i]];
  return parts;
#else
  return __builtin_shuffle(v, from);
#endif
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
