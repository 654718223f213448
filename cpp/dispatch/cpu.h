// What this CPU can do. What the library should do with it is dispatch.h's business.
#pragma once

#include <cstddef>
#include <cstdint>

namespace batchnorm {

struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA and F16C, and the system saves their registers
  bool avx512 = false;  // AVX-512 F, BW, CD, DQ and VL, likewise
};

CpuFeatures DetectCpu();

// Whether lines that are asked for arrive while others are stored. Measured on Zen 4, where it takes up to a fifth off
// a training call; on Cascade Lake and Sapphire Rapids both wait for the same buffers, and it adds up to a fifth.
bool ReadsBesideStores();

// Whether stores that pass the caches are ever faster than plain ones whose lines are asked for. On Skylake-SP and its
// likes a core waits for them: on Cascade Lake a copy of 160 MB takes 16.1 ms with, 13.2 without, and of 20
// MB 1.7, 1.0.
bool StreamsFast();

// Bytes of a core's second-level cache, or 0 where the system doesn't tell.
std::size_t SecondLevelCacheBytes();

// Bytes of the last-level data cache that this process can count on, or 0 where the system doesn't tell.
std::size_t LastLevelCacheBytes();

// How this thread treats subnormal numbers, as long as an object lives: as before, or as 0, read and written, where the
// CPU can (CanFlushSubnormals).
class SubnormalMode {
 public:
  explicit SubnormalMode(bool flush);
  SubnormalMode(const SubnormalMode&) = delete;
  ~SubnormalMode();

 private:
  bool changed_;
  std::uint64_t before_ = 0;
};

bool CanFlushSubnormals();

}  // namespace batchnorm
