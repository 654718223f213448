// Writing a tile, element by element, from a map that gives the value at a place.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// Elements from p to the next vector boundary.
template <class T>
BATCHNORM_INLINE std::size_t ToAlignment(const T* p) {
  constexpr std::size_t kBytes = kLanes<T> * sizeof(T);
  return (kBytes - reinterpret_cast<std::uintptr_t>(p) % kBytes) % kBytes / sizeof(T);
}

// y[r, j] = map(r, j). A value doesn't depend on where it lies: head, body and tail are the same operations.
template <StoreKind S, class T, class MapAt>
BATCHNORM_INLINE void Map(Tile<T> y, MapAt map) {
  for (std::size_t r = 0; r < y.rows; ++r) {
    T* row = Row(y, r);
    std::size_t j = 0;
    if constexpr (S == StoreKind::kStream) {
      const std::size_t head = ToAlignment(row);
      if (0 < head && head <= y.cols) {
        Store(map(r, j, First{head}), row, First{head});
        j = head;
      }
    }
    for (; j + kLanes<T> <= y.cols; j += kLanes<T>) {
      const Vec<T> v = map(r, j, All{});
      if constexpr (S == StoreKind::kStream) {
        Stream(v, row + j);
      } else {
        Store(v, row + j, All{});
      }
    }
    if (j < y.cols) Store(map(r, j, First{y.cols - j}), row + j, First{y.cols - j});
  }
  if constexpr (S == StoreKind::kStream) StreamFence();
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
