// One lane and standard C++: for compilers without vector types (MSVC) and CPUs without an ISA header here.
#pragma once

#define BATCHNORM_ISA baseline
#include "simd/lanes-inl.h"

#define BATCHNORM_INLINE inline

namespace batchnorm::baseline {
namespace {

// A type of its own per element type, so that F32 and F64 overload as vectors do.
template <class T>
struct Scalar {
  T value{};
  T operator[](std::size_t) const { return value; }
};
template <class T>
Scalar<T> operator+(Scalar<T> a, Scalar<T> b) {
  return {a.value + b.value};
}
template <class T>
Scalar<T> operator-(Scalar<T> a, Scalar<T> b) {
  return {a.value - b.value};
}
template <class T>
Scalar<T> operator*(Scalar<T> a, Scalar<T> b) {
  return {a.value * b.value};
}
template <class T>
Scalar<T>& operator+=(Scalar<T>& a, Scalar<T> b) {
  return a = a + b;
}

using F32 = Scalar<float>;
using F64 = Scalar<double>;
template <class T>
using Vec = Scalar<T>;
template <class T>
constexpr std::size_t kLanes = 1;

template <class T>
Vec<T> Set(T value) {
  return {value};
}
// Floats may rest in memory of doubles, which compilers that reason about types must not see as their access.
#if defined(__GNUC__)
#define BATCHNORM_COPY(to, from, bytes) __builtin_memcpy(to, from, bytes)
#else
#define BATCHNORM_COPY(to, from, bytes) (*(to) = *(from))
#endif
template <class T>
Vec<T> Load(const T* p, All) {
  Vec<T> v;
  BATCHNORM_COPY(&v.value, p, sizeof v.value);
  return v;
}
template <class T>
Vec<T> Load(const T*, First, Vec<T> fill = {}) {
  return fill;
}  // no tail is shorter than one lane
template <class T>
void Store(Vec<T> v, T* p, All) {
  BATCHNORM_COPY(p, &v.value, sizeof v.value);
}
template <class T>
void Store(Vec<T>, T*, First) {}
template <class T>
Scalar<T> Select(First, Scalar<T>, Scalar<T> b) {
  return b;
}
template <class T>
void Stream(Vec<T> v, T* p) {
  *p = v.value;
}
inline void StreamFence() {}
template <class T>
Vec<T> MulAdd(Vec<T> a, Vec<T> b, Vec<T> c) {
  return a * b + c;
}
inline F32 Plus(F32 a, F32 b) { return a + b; }
inline F32 Minus(F32 a, F32 b) { return a - b; }
inline F64 Minus(F64 a, F64 b) { return a - b; }
inline F32 ConcatEven(F32, F32 lower) { return lower; }
inline F64 ConcatEven(F64, F64 lower) { return lower; }
template <class T>
T LoadOne(const char* p) {
  T v;
  for (std::size_t i = 0; i < sizeof v; ++i) reinterpret_cast<char*>(&v)[i] = p[i];
  return v;
}
template <class T>
Vec<T> LoadUnaligned(const char* p) {
  return {LoadOne<T>(p)};
}
template <class T>
void StoreOne(T v, char* p) {
  for (std::size_t i = 0; i < sizeof v; ++i) p[i] = reinterpret_cast<const char*>(&v)[i];
}
inline void Prefetch(std::uintptr_t) {}
template <class T, class V>
T ReduceSum(V v) {
  return v.value;
}
inline F64 LoadPromoted(const float* p, All) { return {*p}; }
inline F64 LoadPromoted(const float*, First, F64 fill) { return fill; }

// With one lane there is no upper half: the lower one carries the value, the upper one adds nothing.
inline F64 PromoteLowerTo(F32 v) { return {v.value}; }
inline F64 PromoteUpperTo(F32) { return {0}; }

}  // namespace
}  // namespace batchnorm::baseline
