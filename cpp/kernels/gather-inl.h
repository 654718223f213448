// Elements that lie apart, or off alignment, from and to where vectors find them.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// to[i] = the element i * stride bytes from `from`. No alignment needed; no overlap. Asks for the lines that lie
// `ahead` bytes further on (Note [Prefetch]).
template <class T>
void Gather(const char* from, std::ptrdiff_t stride, std::ptrdiff_t ahead, std::size_t n, T* to) {
  constexpr std::ptrdiff_t kItem = sizeof(T), kEverySecond = 2 * kItem;
  constexpr std::ptrdiff_t kVector = kLanes<T> * sizeof(T), kLine = kLineBytes;
  const std::ptrdiff_t bytes = static_cast<std::ptrdiff_t>(n) * stride;
  if (0 < stride && stride < kLine) {  // of what is sparser no prefetcher keeps track, and most of a line is wasted
    const std::uintptr_t next = reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(ahead);
    for (std::ptrdiff_t i = 0; i < bytes; i += kLine) Prefetch(next + static_cast<std::uintptr_t>(i));
  }
  std::size_t i = 0;
  if (stride == kItem) {
    for (; i + kLanes<T> <= n; i += kLanes<T>, from += kVector) Store(LoadUnaligned<T>(from), to + i, All{});
  } else if (stride == kEverySecond) {
    for (; i + kLanes<T> < n; i += kLanes<T>, from += 2 * kVector) {  // reads an element beyond the last that it takes
      const Vec<T> lower = LoadUnaligned<T>(from), upper = LoadUnaligned<T>(from + kVector);
      Store(ConcatEven(upper, lower), to + i, All{});
    }
  }
  for (; i < n; ++i, from += stride) to[i] = LoadOne<T>(from);
}

// The other way.
template <class T>
void Scatter(const T* from, std::size_t n, char* to, std::ptrdiff_t stride) {
  constexpr std::ptrdiff_t kItem = sizeof(T);
  if (stride == kItem) {
    for (std::size_t i = 0; i < n; ++i, to += kItem) StoreOne(from[i], to);
  } else {
    for (std::size_t i = 0; i < n; ++i, to += stride) StoreOne(from[i], to);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
