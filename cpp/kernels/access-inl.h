// How a kernel reaches its operands: rows of tiles, and parameters that are one value or one per column.
#pragma once

#include "dispatch/kernel_table.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class T>
BATCHNORM_INLINE T* Row(const Tile<T>& tile, std::size_t row) {
  return tile.data + static_cast<std::ptrdiff_t>(row) * tile.stride;
}

// kLanes<Acc> elements of T, as a vector of Acc. Lanes that aren't touched take `fill`.
template <class Acc, class T, class Lanes>
BATCHNORM_INLINE Vec<Acc> LoadAs(const T* p, Lanes lanes, Vec<Acc> fill) {
  if constexpr (sizeof(Acc) == sizeof(T)) {
    if constexpr (sizeof(Lanes) == sizeof(All)) {
      return Load(p, lanes);
    } else {
      return Load(p, lanes, fill);
    }
  } else if constexpr (sizeof(Lanes) == sizeof(All)) {
    return LoadPromoted(p, lanes);
  } else {
    return LoadPromoted(p, lanes, fill);
  }
}

template <Walk W, class T, class Acc = T>
class Parameter;

template <class T, class Acc>
class Parameter<Walk::kPlanar, T, Acc> {
 public:
  explicit BATCHNORM_INLINE Parameter(const T* p) : value_(Set<Acc>(static_cast<Acc>(*p))) {}
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> At(std::size_t, Lanes) const {
    return value_;
  }

 private:
  Vec<Acc> value_;
};

template <class T, class Acc>
class Parameter<Walk::kRows, T, Acc> {
 public:
  explicit BATCHNORM_INLINE Parameter(const T* p) : columns_(p) {}
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> At(std::size_t column, Lanes lanes) const {
    return LoadAs<Acc>(columns_ + column, lanes, Vec<Acc>{});
  }

 private:
  const T* columns_;
};

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
