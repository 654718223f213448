// AVX-512: 64-byte vectors, masked tails, fused multiply-add.
#pragma once

#include <immintrin.h>

#define BATCHNORM_ISA avx512
#define BATCHNORM_VECTOR_BYTES 64
#include "simd/vector-inl.h"

namespace batchnorm::avx512 {
namespace {

constexpr bool kShufflesBytes = true;   // in any order, by one instruction
constexpr bool kHasHalfKernels = true;  // where no instruction converts, a tile at a time is converted

// a * b + c, rounded once.
BATCHNORM_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
BATCHNORM_INLINE F64 MulAdd(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a, b, c); }

// a + b and a - b by the unit of MulAdd: where a loop waits for additions, two units share them.
BATCHNORM_INLINE F32 Plus(F32 a, F32 b) { return MulAdd(a, Set(1.0f), b); }
BATCHNORM_INLINE F32 Minus(F32 a, F32 b) { return _mm512_fmsub_ps(a, Set(1.0f), b); }
BATCHNORM_INLINE F64 Minus(F64 a, F64 b) { return _mm512_fmsub_pd(a, Set(1.0), b); }

BATCHNORM_INLINE __mmask16 Mask16(First lanes) { return static_cast<__mmask16>((1u << lanes.count) - 1); }
BATCHNORM_INLINE __mmask8 Mask8(First lanes) { return static_cast<__mmask8>((1u << lanes.count) - 1); }

// Lanes beyond the count take `fill`; their memory isn't touched.
BATCHNORM_INLINE F32 Load(const float* p, First lanes, F32 fill = F32{}) {
  return _mm512_mask_loadu_ps(fill, Mask16(lanes), p);
}
BATCHNORM_INLINE F64 Load(const double* p, First lanes, F64 fill = F64{}) {
  return _mm512_mask_loadu_pd(fill, Mask8(lanes), p);
}
BATCHNORM_INLINE void Store(F32 v, float* p, First lanes) { _mm512_mask_storeu_ps(p, Mask16(lanes), v); }
BATCHNORM_INLINE void Store(F64 v, double* p, First lanes) { _mm512_mask_storeu_pd(p, Mask8(lanes), v); }

// The first lanes of a, the others of b.
BATCHNORM_INLINE F32 Select(First lanes, F32 a, F32 b) { return _mm512_mask_blend_ps(Mask16(lanes), b, a); }
BATCHNORM_INLINE F64 Select(First lanes, F64 a, F64 b) { return _mm512_mask_blend_pd(Mask8(lanes), b, a); }

// The even lanes of `lower`, then those of `upper`.
BATCHNORM_INLINE F32 ConcatEven(F32 upper, F32 lower) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(lower, even, upper);
}
BATCHNORM_INLINE F64 ConcatEven(F64 upper, F64 lower) {
  return _mm512_permutex2var_pd(lower, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), upper);
}

// Past the caches; p is aligned to the vector. StreamFence orders the stores before what follows.
BATCHNORM_INLINE void Stream(F32 v, float* p) { _mm512_stream_ps(p, v); }
BATCHNORM_INLINE void Stream(F64 v, double* p) { _mm512_stream_pd(p, v); }
BATCHNORM_INLINE void StreamFence() { _mm_sfence(); }

BATCHNORM_INLINE F64 PromoteLowerTo(F32 v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
BATCHNORM_INLINE F64 PromoteUpperTo(F32 v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }

// Lanes<double> values, as float64.
BATCHNORM_INLINE F64 LoadF64(const float* p, All) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
BATCHNORM_INLINE F64 LoadF64(const float* p, First lanes, F64 fill) {
  return _mm512_mask_cvtps_pd(fill, Mask8(lanes), _mm256_maskz_loadu_ps(Mask8(lanes), p));
}

BATCHNORM_INLINE U32 WidenTo32(U8 v) { return (U32)_mm512_cvtepu8_epi32((__m128i)v); }
// The lower ones.
BATCHNORM_INLINE U64 WidenTo64(U8 v) { return (U64)_mm512_cvtepu8_epi64((__m128i)v); }
BATCHNORM_INLINE F32 PromoteBytes(U8 v) { return _mm512_cvtepi32_ps((__m512i)WidenTo32(v)); }
BATCHNORM_INLINE F32 PromoteBytes(I8 v) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)v)); }

BATCHNORM_INLINE Words WidenBytes(UBytes v) { return (Words)_mm512_cvtepu8_epi16((__m256i)v); }
BATCHNORM_INLINE Words WidenBytes(IBytes v) { return (Words)_mm512_cvtepi8_epi16((__m256i)v); }

BATCHNORM_INLINE U32 Widen(U16 v) { return (U32)_mm512_cvtepu16_epi32((__m256i)v); }
BATCHNORM_INLINE U16 Narrow(U32 v) { return (U16)_mm512_cvtepi32_epi16((__m512i)v); }
// The upper halves of a's lanes, then of b's.
BATCHNORM_INLINE U32 UpperHalves(U32 a, U32 b) {
  const U32 odd = (U32){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * 0x40004u + 0x30001u;
  return (U32)_mm512_permutex2var_epi16((__m512i)a, (__m512i)odd, (__m512i)b);
}
BATCHNORM_INLINE U32 Join(U16 a, U16 b) {
  return (U32)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)a), (__m256i)b, 1);
}
BATCHNORM_INLINE F32 PromoteFloat16(U16 v) { return _mm512_cvtph_ps((__m256i)v); }
BATCHNORM_INLINE U16 DemoteFloat16(F32 v) { return (U16)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
BATCHNORM_INLINE U16 LoadBits(const std::uint16_t* p, First lanes) {
  return (U16)_mm256_maskz_loadu_epi16(Mask16(lanes), p);
}
BATCHNORM_INLINE void StoreBits(U16 v, std::uint16_t* p, First lanes) {
  _mm256_mask_storeu_epi16(p, Mask16(lanes), (__m256i)v);
}
// The first kLanes<double>, then zeros.
BATCHNORM_INLINE U16 LoadLowerBits(const std::uint16_t* p) {
  return (U16)_mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
BATCHNORM_INLINE void StreamBits(U16 v, std::uint16_t* p) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
}

}  // namespace
}  // namespace batchnorm::avx512

#include "simd/narrow-inl.h"
