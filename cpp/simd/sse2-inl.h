// The baseline of x86-64: 16-byte vectors, no fused multiply-add, no masks.
#pragma once

#include <emmintrin.h>

#define BATCHNORM_ISA baseline
#define BATCHNORM_VECTOR_BYTES 16
#include "simd/partial-inl.h"
#include "simd/vector-inl.h"

namespace batchnorm::baseline {
namespace {

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
BATCHNORM_INLINE F64 LoadPromoted(const float* p, All) {
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
BATCHNORM_INLINE F64 LoadPromoted(const float* p, First, F64 fill) { return F64{p[0], fill[1]}; }

}  // namespace
}  // namespace batchnorm::baseline
