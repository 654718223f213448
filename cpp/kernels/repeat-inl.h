// What all channels share, repeated for each of them.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <std::size_t kEach, class E, std::size_t kPart = 0>
BATCHNORM_INLINE void StoreSpread(Vec<E> v, E* to) {
  if constexpr (kPart < kEach) {
    Store(Spread<E, kEach, kPart>(v), to + kPart * kLanes<E>, All{});
    StoreSpread<kEach, E, kPart + 1>(v, to);
  }
}

template <std::size_t kEach, class E>
BATCHNORM_INLINE void RepeatEach(const E* once, std::size_t n, E* to) {
  std::size_t i = 0;
  for (; i + kLanes<E> <= n; i += kLanes<E>) {
    Prefetch(reinterpret_cast<std::uintptr_t>(once + i) + kAheadBytes);  // Note [Prefetch]
    StoreSpread<kEach, E>(Load(once + i, All{}), to + kEach * i);
  }
  for (; i < n; ++i) {
    for (std::size_t c = 0; c < kEach; ++c) to[kEach * i + c] = once[i];
  }
}

// to[i * each + c] = once[i] for c < each; kMostLanes more may be written. No alignment needed; no overlap.
template <class E>
void Repeat(const E* once, std::size_t n, std::size_t each, E* to) {
  if (each == 2) return RepeatEach<2>(once, n, to);
  if (each == 3 && (sizeof(E) > 1 || kShufflesBytes)) return RepeatEach<3>(once, n, to);
  if (each == 4) return RepeatEach<4>(once, n, to);
  for (std::size_t i = 0; i < n; ++i, to += each) {
    const Vec<E> v = Set(once[i]);
    for (std::size_t j = 0; j < each; j += kLanes<E>) Store(v, to + j, All{});
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
