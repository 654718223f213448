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
