// What this CPU can do. What the library should do with it is dispatch.h's business.
#pragma once

#include <cstddef>

namespace batchnorm {

struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA and F16C, and the system saves their registers
  bool avx512 = false;  // AVX-512 F, BW, CD, DQ and VL, likewise
};

CpuFeatures DetectCpu();

// Bytes of the last-level data cache that this process can count on, or 0 where the system doesn't tell.
std::size_t LastLevelCacheBytes();

}  // namespace batchnorm
