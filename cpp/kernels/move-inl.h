// Nothing but moving bytes: the limit of every job above.
#pragma once

#include "kernels/map-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// The sum of what `at` gives, in eight chains so that reading is all that takes time.
template <class At>
BATCHNORM_INLINE float Drain(std::size_t n, At at) {
  constexpr std::size_t kChains = 8;
  constexpr std::size_t kStep = kChains * kLanes<float>;
  F32 s[kChains] = {};
  std::size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (std::size_t k = 0; k < kChains; ++k) s[k] += at(i + k * kLanes<float>, All{});
  }
  for (; i + kLanes<float> <= n; i += kLanes<float>) s[0] += at(i, All{});
  if (i < n) s[0] += at(i, First{n - i});
  for (std::size_t k = 1; k < kChains; ++k) s[0] += s[k];
  return ReduceSum<float>(s[0]);
}

float Read1(const float* a, std::size_t n) {
  return Drain(n, [=](std::size_t i, auto lanes) { return LoadAs<float>(a + i, lanes, F32{}); });
}

float Read2(const float* a, const float* b, std::size_t n) {
  return Drain(n, [=](std::size_t i, auto lanes) {
    return LoadAs<float>(a + i, lanes, F32{}) + LoadAs<float>(b + i, lanes, F32{});
  });
}

template <StoreKind S>
void Copy(const float* a, float* out, std::size_t n) {
  Map<S>(Tile<float>{out, 1, n, 0},
         [=](std::size_t, std::size_t j, auto lanes) { return LoadAs<float>(a + j, lanes, F32{}); });
}

template <StoreKind S>
void Read2Write1(const float* a, const float* b, float* out, std::size_t n) {
  Map<S>(Tile<float>{out, 1, n, 0}, [=](std::size_t, std::size_t j, auto lanes) {
    return LoadAs<float>(a + j, lanes, F32{}) + LoadAs<float>(b + j, lanes, F32{});
  });
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
