// Half precisions to float32 and back, in arithmetic that every CPU has. U is std::uint32_t or a vector of them, F the
// float, or the vector of floats, of the same bits. Rounded to nearest, ties to even; a NaN stays one.
#pragma once

#include "simd/elements.h"
#include "simd/lanes-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// The value of a brain float in the low half of h.
template <class F, class U>
BATCHNORM_INLINE F FromBFloat16(U h) {
  return BitsAs<F>(h << 16);
}

// In the high half, and something in the low one. Of a NaN that came from brain floats, or from arithmetic: the lower
// half of its bits is 0, which no carry leaves.
template <class F, class U>
BATCHNORM_INLINE U RoundToBFloat16(F v) {
  const U bits = BitsAs<U>(v);
  return bits + 0x7fffu + (bits >> 16 & 1u);
}
template <class F, class U>
BATCHNORM_INLINE U ToBFloat16(F v) {
  return RoundToBFloat16<F, U>(v) >> 16;
}
// Of any NaN.
template <class F, class U>
BATCHNORM_INLINE F ShortNaN(F v) {
  const U bits = BitsAs<U>(v);
  return v == v ? v : BitsAs<F>((bits & 0xffff0000u) | 0x00400000u);
}

// The value of a half in the low half of h. What lies below its least normal value is a difference of two floats,
// because a float below its own may be flushed to 0.
template <class F, class U>
BATCHNORM_INLINE F FromFloat16(U h) {
  constexpr std::uint32_t kExponents = 0x0f800000u, kRebias = 112u << 23, kLeast = 113u << 23;
  const U sign = (h & 0x8000u) << 16, magnitude = (h & 0x7fffu) << 13, exponent = magnitude & kExponents;
  const U zero = h - h;
  const U small = BitsAs<U>(BitsAs<F>(magnitude + kLeast) - BitsAs<F>(zero + kLeast));
  const U beyond = exponent == zero + kExponents ? (zero + kRebias) : zero;  // infinity and NaN
  const U bits = exponent == zero ? small : (magnitude + kRebias + beyond);
  return BitsAs<F>(bits | sign);
}

template <class F, class U>
BATCHNORM_INLINE U ToFloat16(F v) {
  constexpr std::uint32_t kRebias = 112u << 23, kLeast = 113u << 23, kBeyond = 143u << 23, kInfinity = 255u << 23;
  const U all = BitsAs<U>(v), sign = all & 0x80000000u, magnitude = all ^ sign, zero = all - all;
  const U half = zero + (126u << 23);  // 0.5f, whose ulp is that of the least halves
  const U small = BitsAs<U>(BitsAs<F>(magnitude) + BitsAs<F>(half)) - half;
  const U normal = (magnitude - kRebias + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  U bits = magnitude < zero + kLeast ? small : normal;
  bits = magnitude < zero + kBeyond ? bits : (zero + 0x7c00u);
  bits = magnitude > zero + kInfinity ? (zero + 0x7e00u) : bits;
  return bits | (sign >> 16);
}

// One element, as a float32 and back.
template <class E>
BATCHNORM_INLINE float ToFloat(E e) {
  return static_cast<float>(e);
}
BATCHNORM_INLINE float ToFloat(Float16 e) { return FromFloat16<float>(std::uint32_t{e.bits}); }
BATCHNORM_INLINE float ToFloat(BFloat16 e) { return FromBFloat16<float>(std::uint32_t{e.bits}); }

BATCHNORM_INLINE void FromFloat(float v, float* e) { *e = v; }
BATCHNORM_INLINE void FromFloat(float v, Float16* e) {
  e->bits = static_cast<std::uint16_t>(ToFloat16<float, std::uint32_t>(v));
}
BATCHNORM_INLINE void FromFloat(float v, BFloat16* e) {
  e->bits = static_cast<std::uint16_t>(ToBFloat16<float, std::uint32_t>(ShortNaN<float, std::uint32_t>(v)));
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
