// The baseline of x86-64: 16-byte vectors, no fused multiply-add, no masks.
#pragma once

#include <emmintrin.h>

#define BATCHNORM_ISA baseline
#define BATCHNORM_VECTOR_BYTES 16
#include "simd/partial-inl.h"
#include "simd/vector-inl.h"

namespace batchnorm::baseline {
namespace {

constexpr bool kShufflesBytes = false;   // in any order, by one instruction
constexpr bool kHasHalfKernels = false;  // where no instruction converts, a tile at a time is converted

// a * b + c, rounded twice: SSE2 has no fused form, and emulating one would cost ten times the instructions.
BATCHNORM_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return a * b + c; }
BATCHNORM_INLINE F64 MulAdd(F64 a, F64 b, F64 c) { return a * b + c; }

// a + b. CPUs that add and multiply in units of their own have wider vectors (avx2-inl.h).
BATCHNORM_INLINE F32 Plus(F32 a, F32 b) { return a + b; }
BATCHNORM_INLINE F32 Minus(F32 a, F32 b) { return a - b; }
BATCHNORM_INLINE F64 Minus(F64 a, F64 b) { return a - b; }

// The even lanes of `lower`, then those of `upper`.
BATCHNORM_INLINE F32 ConcatEven(F32 upper, F32 lower) { return _mm_shuffle_ps(lower, upper, 0x88); }
BATCHNORM_INLINE F64 ConcatEven(F64 upper, F64 lower) { return _mm_unpacklo_pd(lower, upper); }

// Past the caches; p is aligned to the vector. StreamFence orders the stores before what follows.
BATCHNORM_INLINE void Stream(F32 v, float* p) { _mm_stream_ps(p, v); }
BATCHNORM_INLINE void Stream(F64 v, double* p) { _mm_stream_pd(p, v); }
BATCHNORM_INLINE void StreamFence() { _mm_sfence(); }

BATCHNORM_INLINE F64 PromoteLowerTo(F32 v) { return _mm_cvtps_pd(v); }
BATCHNORM_INLINE F64 PromoteUpperTo(F32 v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }

// Lanes<double> values, as float64.
BATCHNORM_INLINE F64 LoadF64(const float* p, All) {
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
BATCHNORM_INLINE F64 LoadF64(const float* p, First, F64 fill) { return F64{p[0], fill[1]}; }

// The bytes in the high ones of 32 bits, so that a shift brings their sign along.
BATCHNORM_INLINE __m128i HighBytes(int bytes) {
  const __m128i zero = _mm_setzero_si128();
  return _mm_unpacklo_epi16(zero, _mm_unpacklo_epi8(zero, _mm_cvtsi32_si128(bytes)));
}
BATCHNORM_INLINE U32 WidenTo32(U8 v) { return (U32)_mm_srli_epi32(HighBytes(BitsAs<int>(v)), 24); }
// The lower ones.
BATCHNORM_INLINE U64 WidenTo64(U8 v) { return (U64)_mm_unpacklo_epi32((__m128i)WidenTo32(v), _mm_setzero_si128()); }
BATCHNORM_INLINE F32 PromoteBytes(U8 v) { return _mm_cvtepi32_ps((__m128i)WidenTo32(v)); }
BATCHNORM_INLINE F32 PromoteBytes(I8 v) { return _mm_cvtepi32_ps(_mm_srai_epi32(HighBytes(BitsAs<int>(v)), 24)); }

BATCHNORM_INLINE Words WidenBytes(UBytes v) {
  return (Words)_mm_unpacklo_epi8(_mm_cvtsi64_si128(BitsAs<long long>(v)), _mm_setzero_si128());
}
BATCHNORM_INLINE Words WidenBytes(IBytes v) {
  return (Words)_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_cvtsi64_si128(BitsAs<long long>(v))), 8);
}

BATCHNORM_INLINE U32 Widen(U16 v) {
  return (U32)_mm_unpacklo_epi16(_mm_cvtsi64_si128(BitsAs<long long>(v)), _mm_setzero_si128());
}
// Of values below 2^16: SSE2 packs signed ones only.
BATCHNORM_INLINE U16 Narrow(U32 v) {
  const __m128i sign_extended = _mm_srai_epi32(_mm_slli_epi32((__m128i)v, 16), 16);
  return BitsAs<U16>(_mm_cvtsi128_si64(_mm_packs_epi32(sign_extended, sign_extended)));
}
// The upper halves of a's lanes, then of b's.
BATCHNORM_INLINE U32 UpperHalves(U32 a, U32 b) {
  return (U32)_mm_packs_epi32(_mm_srai_epi32((__m128i)a, 16), _mm_srai_epi32((__m128i)b, 16));
}
BATCHNORM_INLINE U32 Join(U16 a, U16 b) { return (U32)_mm_set_epi64x(BitsAs<long long>(b), BitsAs<long long>(a)); }
BATCHNORM_INLINE F32 PromoteFloat16(U16 v) { return FromFloat16<F32>(Widen(v)); }
BATCHNORM_INLINE U16 DemoteFloat16(F32 v) { return Narrow(ToFloat16<F32, U32>(v)); }
BATCHNORM_INLINE void StreamBits(U16 v, std::uint16_t* p) {
  _mm_stream_si64(reinterpret_cast<long long*>(p), BitsAs<long long>(v));
}

}  // namespace
}  // namespace batchnorm::baseline

#include "simd/partial-narrow-inl.h"

#include "simd/narrow-inl.h"
