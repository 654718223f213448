// aarch64: 16-byte vectors, fused multiply-add. Every aarch64 CPU has them, so there is nothing to choose at run time.
#pragma once

#include <arm_neon.h>

#define BATCHNORM_ISA neon
#define BATCHNORM_VECTOR_BYTES 16
#include "simd/partial-inl.h"
#include "simd/vector-inl.h"

namespace batchnorm::neon {
namespace {

constexpr bool kShufflesBytes = true;   // in any order, by one instruction
constexpr bool kHasHalfKernels = true;  // where no instruction converts, a tile at a time is converted

// a * b + c, rounded once.
BATCHNORM_INLINE F32 MulAdd(F32 a, F32 b, F32 c) {
  return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
BATCHNORM_INLINE F64 MulAdd(F64 a, F64 b, F64 c) {
  return (F64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}

// a + b: additions and multiplications share their units.
BATCHNORM_INLINE F32 Plus(F32 a, F32 b) { return a + b; }
BATCHNORM_INLINE F32 Minus(F32 a, F32 b) { return a - b; }
BATCHNORM_INLINE F64 Minus(F64 a, F64 b) { return a - b; }

// The even lanes of `lower`, then those of `upper`.
BATCHNORM_INLINE F32 ConcatEven(F32 upper, F32 lower) {
  return (F32)vuzp1q_f32((float32x4_t)lower, (float32x4_t)upper);
}
BATCHNORM_INLINE F64 ConcatEven(F64 upper, F64 lower) {
  return (F64)vuzp1q_f64((float64x2_t)lower, (float64x2_t)upper);
}

// aarch64 has no streaming store for one vector; its write-streaming mode sees long runs of stores by itself.
BATCHNORM_INLINE void Stream(F32 v, float* p) { Store(v, p, All{}); }
BATCHNORM_INLINE void Stream(F64 v, double* p) { Store(v, p, All{}); }
BATCHNORM_INLINE void StreamFence() {}

BATCHNORM_INLINE F64 PromoteLowerTo(F32 v) { return (F64)vcvt_f64_f32(vget_low_f32((float32x4_t)v)); }
BATCHNORM_INLINE F64 PromoteUpperTo(F32 v) { return (F64)vcvt_high_f64_f32((float32x4_t)v); }

// Lanes<double> values, as float64.
BATCHNORM_INLINE F64 LoadF64(const float* p, All) { return (F64)vcvt_f64_f32(vld1_f32(p)); }
BATCHNORM_INLINE F64 LoadF64(const float* p, First, F64 fill) { return F64{p[0], fill[1]}; }

BATCHNORM_INLINE U32 WidenTo32(U8 v) {
  return (U32)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(BitsAs<std::uint32_t>(v)))));
}
// The lower ones.
BATCHNORM_INLINE U64 WidenTo64(U8 v) { return (U64)vmovl_u32(vget_low_u32((uint32x4_t)WidenTo32(v))); }
BATCHNORM_INLINE F32 PromoteBytes(U8 v) { return (F32)vcvtq_f32_u32((uint32x4_t)WidenTo32(v)); }
BATCHNORM_INLINE F32 PromoteBytes(I8 v) {
  const int8x8_t bytes = vcreate_s8(BitsAs<std::uint32_t>(v));
  return (F32)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

BATCHNORM_INLINE Words WidenBytes(UBytes v) { return (Words)vmovl_u8((uint8x8_t)v); }
BATCHNORM_INLINE Words WidenBytes(IBytes v) { return (Words)vmovl_s8((int8x8_t)v); }

BATCHNORM_INLINE U32 Widen(U16 v) { return (U32)vmovl_u16((uint16x4_t)v); }
BATCHNORM_INLINE U16 Narrow(U32 v) { return (U16)vmovn_u32((uint32x4_t)v); }
// The upper halves of a's lanes, then of b's.
BATCHNORM_INLINE U32 UpperHalves(U32 a, U32 b) { return (U32)vuzp2q_u16((uint16x8_t)a, (uint16x8_t)b); }
BATCHNORM_INLINE U32 Join(U16 a, U16 b) { return (U32)vcombine_u16((uint16x4_t)a, (uint16x4_t)b); }
BATCHNORM_INLINE F32 PromoteFloat16(U16 v) { return (F32)vcvt_f32_f16((float16x4_t)v); }
BATCHNORM_INLINE U16 DemoteFloat16(F32 v) { return (U16)vcvt_f16_f32((float32x4_t)v); }
// The first kLanes<double>, then zeros.
BATCHNORM_INLINE U16 LoadLowerBits(const std::uint16_t* p) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return (U16)vcreate_u16(bits);
}
BATCHNORM_INLINE void StreamBits(U16 v, std::uint16_t* p) { __builtin_memcpy(p, &v, sizeof v); }

}  // namespace
}  // namespace batchnorm::neon

#include "simd/partial-narrow-inl.h"

#include "simd/narrow-inl.h"
