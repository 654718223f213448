// AVX2: 32-byte vectors, fused multiply-add.
#pragma once

#include <immintrin.h>

#define BATCHNORM_ISA avx2
#define BATCHNORM_VECTOR_BYTES 32
#include "simd/vector-inl.h"

namespace batchnorm::avx2 {
namespace {

constexpr bool kShufflesBytes = true;   // in any order, by one instruction
constexpr bool kHasHalfKernels = true;  // where no instruction converts, a tile at a time is converted

// a * b + c, rounded once.
BATCHNORM_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
BATCHNORM_INLINE F64 MulAdd(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a, b, c); }

// a + b and a - b by the unit of MulAdd: where a loop waits for additions, two units share them.
BATCHNORM_INLINE F32 Plus(F32 a, F32 b) { return MulAdd(a, Set(1.0f), b); }
BATCHNORM_INLINE F32 Minus(F32 a, F32 b) { return _mm256_fmsub_ps(a, Set(1.0f), b); }
BATCHNORM_INLINE F64 Minus(F64 a, F64 b) { return _mm256_fmsub_pd(a, Set(1.0), b); }

BATCHNORM_INLINE __m256i Mask32(First lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes.count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
BATCHNORM_INLINE __m256i Mask64(First lanes) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(lanes.count)), _mm256_setr_epi64x(0, 1, 2, 3));
}

// Lanes beyond the count take `fill`; their memory isn't touched.
BATCHNORM_INLINE F32 Load(const float* p, First lanes, F32 fill = F32{}) {
  const __m256i mask = Mask32(lanes);
  return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
BATCHNORM_INLINE F64 Load(const double* p, First lanes, F64 fill = F64{}) {
  const __m256i mask = Mask64(lanes);
  return _mm256_blendv_pd(fill, _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}
BATCHNORM_INLINE void Store(F32 v, float* p, First lanes) { _mm256_maskstore_ps(p, Mask32(lanes), v); }
BATCHNORM_INLINE void Store(F64 v, double* p, First lanes) { _mm256_maskstore_pd(p, Mask64(lanes), v); }

// The first lanes of a, the others of b.
BATCHNORM_INLINE F32 Select(First lanes, F32 a, F32 b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(Mask32(lanes)));
}
BATCHNORM_INLINE F64 Select(First lanes, F64 a, F64 b) {
  return _mm256_blendv_pd(b, a, _mm256_castsi256_pd(Mask64(lanes)));
}

// The even lanes of `lower`, then those of `upper`.
BATCHNORM_INLINE F32 ConcatEven(F32 upper, F32 lower) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(lower, upper, 0x88)), 0xd8));
}
BATCHNORM_INLINE F64 ConcatEven(F64 upper, F64 lower) {
  return _mm256_permute4x64_pd(_mm256_unpacklo_pd(lower, upper), 0xd8);
}

// Past the caches; p is aligned to the vector. StreamFence orders the stores before what follows.
BATCHNORM_INLINE void Stream(F32 v, float* p) { _mm256_stream_ps(p, v); }
BATCHNORM_INLINE void Stream(F64 v, double* p) { _mm256_stream_pd(p, v); }
BATCHNORM_INLINE void StreamFence() { _mm_sfence(); }

BATCHNORM_INLINE F64 PromoteLowerTo(F32 v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
BATCHNORM_INLINE F64 PromoteUpperTo(F32 v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

// Lanes<double> values, as float64.
BATCHNORM_INLINE F64 LoadF64(const float* p, All) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
BATCHNORM_INLINE F64 LoadF64(const float* p, First lanes, F64 fill) {
  const __m256i mask = Mask64(lanes);
  const __m128i narrow = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(lanes.count)), _mm_setr_epi32(0, 1, 2, 3));
  return _mm256_blendv_pd(fill, _mm256_cvtps_pd(_mm_maskload_ps(p, narrow)), _mm256_castsi256_pd(mask));
}

BATCHNORM_INLINE U32 WidenTo32(U8 v) { return (U32)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(BitsAs<long long>(v))); }
// The lower ones.
BATCHNORM_INLINE U64 WidenTo64(U8 v) { return (U64)_mm256_cvtepu8_epi64(_mm_cvtsi64_si128(BitsAs<long long>(v))); }
BATCHNORM_INLINE F32 PromoteBytes(U8 v) { return _mm256_cvtepi32_ps((__m256i)WidenTo32(v)); }
BATCHNORM_INLINE F32 PromoteBytes(I8 v) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(BitsAs<long long>(v))));
}

BATCHNORM_INLINE Words WidenBytes(UBytes v) { return (Words)_mm256_cvtepu8_epi16((__m128i)v); }
BATCHNORM_INLINE Words WidenBytes(IBytes v) { return (Words)_mm256_cvtepi8_epi16((__m128i)v); }

BATCHNORM_INLINE U32 Widen(U16 v) { return (U32)_mm256_cvtepu16_epi32((__m128i)v); }
// Of values below 2^16.
BATCHNORM_INLINE U16 Narrow(U32 v) {
  return (U16)_mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
}
// The upper halves of a's lanes, then of b's.
BATCHNORM_INLINE U32 UpperHalves(U32 a, U32 b) {
  const __m256i by_128 = _mm256_packus_epi32((__m256i)(a >> 16), (__m256i)(b >> 16));
  return (U32)_mm256_permute4x64_epi64(by_128, _MM_SHUFFLE(3, 1, 2, 0));
}
BATCHNORM_INLINE U32 Join(U16 a, U16 b) { return (U32)_mm256_set_m128i((__m128i)b, (__m128i)a); }
BATCHNORM_INLINE F32 PromoteFloat16(U16 v) { return _mm256_cvtph_ps((__m128i)v); }
BATCHNORM_INLINE U16 DemoteFloat16(F32 v) { return (U16)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
// The first kLanes<double>, then zeros.
BATCHNORM_INLINE U16 LoadLowerBits(const std::uint16_t* p) {
  return (U16)_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
BATCHNORM_INLINE void StreamBits(U16 v, std::uint16_t* p) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
}

}  // namespace
}  // namespace batchnorm::avx2

#include "simd/partial-narrow-inl.h"

#include "simd/narrow-inl.h"
