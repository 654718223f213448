// One lane and standard C++: for compilers without vector types (MSVC) and CPUs without an ISA header here.
#pragma once

#define BATCHNORM_ISA baseline
#include "simd/half-inl.h"
#include "simd/lanes-inl.h"

namespace batchnorm::baseline {
namespace {

constexpr bool kShufflesBytes = false;   // in any order, by one instruction
constexpr bool kHasHalfKernels = false;  // where no instruction converts, a tile at a time is converted

// A type of its own per element type, so that F32 and F64 overload as vectors do.
template <class T>
struct Scalar {
  T value{};
  T operator[](std::size_t) const { return value; }
};
template <class T>
Scalar<T> operator+(Scalar<T> a, Scalar<T> b) {
  return {static_cast<T>(a.value + b.value)};  // words are added as int
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
Scalar<T> operator>>(Scalar<T> a, int bits) {
  return {static_cast<T>(a.value >> bits)};
}
template <class T>
Scalar<T>& operator+=(Scalar<T>& a, Scalar<T> b) {
  return a = a + b;
}

using F32 = Scalar<float>;
using F64 = Scalar<double>;
using Words = Scalar<std::uint16_t>;
// As unsigned: the int that words promote to has no room for their product.
constexpr Words operator*(Words a, Words b) { return {static_cast<std::uint16_t>(unsigned{a.value} * b.value)}; }
static_assert((Words{0xff80} * Words{0xff80}).value == 0x4000);
template <class T>
using Vec = Scalar<T>;
template <class T>
constexpr std::size_t kLanes = 1;

template <class T>
Vec<T> Set(T value) {
  return {value};
}
template <class T>
Vec<T> Load(const T* p, All) {
  return {LoadOne<T>(reinterpret_cast<const char*>(p))};
}
template <class T>
Vec<T> Load(const T*, First, Vec<T> fill = {}) {
  return fill;
}  // no tail is shorter than one lane
inline void FromLane(double v, double* e) { *e = v; }
inline void FromLane(std::uint8_t v, std::uint8_t* e) { *e = v; }
template <class E>
void FromLane(float v, E* e) {
  FromFloat(v, e);
}
template <class T, class E>
void Store(Scalar<T> v, E* p, All) {
  E e;
  FromLane(v.value, &e);
  StoreOne(e, reinterpret_cast<char*>(p));
}
template <class T, class E>
void Store(Scalar<T>, E*, First) {}
template <class T, class E>
void Stream(Scalar<T> v, E* p) {
  Store(v, p, All{});
}
template <class T>
Scalar<T> Select(First, Scalar<T>, Scalar<T> b) {
  return b;
}
template <class T>
Scalar<T> IfNotPositive(Scalar<T> test, Scalar<T> then, Scalar<T> otherwise) {
  return test.value <= 0 ? then : otherwise;
}
template <class Test, class T>
Scalar<T> IfZero(Scalar<Test> test, Scalar<T> then, Scalar<T> otherwise) {
  return test.value == 0 ? then : otherwise;
}
template <class T>
Scalar<T> IfLess(Scalar<T> a, Scalar<T> b, Scalar<T> then, Scalar<T> otherwise) {
  return a.value < b.value ? then : otherwise;
}
template <class T, std::size_t kEach, std::size_t kPart>
Vec<T> Spread(Vec<T> v) {
  return v;
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
Vec<T> LoadUnaligned(const char* p) {
  return {LoadOne<T>(p)};
}
inline void Prefetch(std::uintptr_t) {}
template <class T, class V>
T ReduceSum(V v) {
  return v.value;
}
inline F64 LoadF64(const float* p, All) { return {*p}; }
inline F64 LoadF64(const float*, First, F64 fill) { return fill; }

template <class T>
Vec<Flag<T>> LoadFlags(const std::uint8_t* p) {
  return {*p};
}

template <class E>
Words LoadWords(const E* p, All) {
  return {static_cast<std::uint16_t>(*p)};
}
template <class E>
Words LoadWords(const E*, First) {
  return {};
}

inline F32 ShortNaNs(F32 v) { return v; }  // FromFloat takes any

template <class E>
constexpr bool kInPairs = false;
template <class E>
constexpr bool kPacks = false;

template <class E>
F32 LoadF32(const E* p, All) {
  return {ToFloat(LoadOne<E>(reinterpret_cast<const char*>(p)))};
}
template <class E>
F32 LoadF32(const E*, First, F32 fill) {
  return fill;
}

// With one lane there is no upper half: the lower one carries the value, the upper one adds nothing.
inline F64 PromoteLowerTo(F32 v) { return {v.value}; }
inline F64 PromoteUpperTo(F32) { return {0}; }

}  // namespace
}  // namespace batchnorm::baseline
