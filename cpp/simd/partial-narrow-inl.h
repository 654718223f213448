// Partial loads and stores of 16 bits, for an ISA without masks for them.
#pragma once

#include "simd/vector-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

BATCHNORM_INLINE U16 LoadBits(const std::uint16_t* p, First lanes) {
  std::uint16_t bits[kLanes<float>] = {};
  for (std::size_t i = 0; i < lanes.count; ++i) bits[i] = p[i];
  return BitsAs<U16>(bits);
}
BATCHNORM_INLINE void StoreBits(U16 v, std::uint16_t* p, First lanes) {
  for (std::size_t i = 0; i < lanes.count; ++i) p[i] = v[i];
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
