// Values that a mask leaves out are replaced: by what adds nothing to a sum, or by the 0 of an output.
#pragma once

#include "kernels/map-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// out = x where the mask isn't 0, elsewhere the fill.
template <Walk W, class E>
struct FillMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = 2;
  static constexpr PlanarRows rows = PlanarRows::kRuns;
  Tile<const E> x, mask;
  Parameter<W, T> fill;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<T> counts = LoadAs<T>(Row(mask, r) + j, lanes, Vec<T>{});
    return IfZero(counts, fill.At(j, lanes), LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}));
  }
  BATCHNORM_INLINE void SetRow(std::size_t) {}
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(x) && RowsTouch(mask); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
};

template <Walk W, class E>
void Fill(Tile<const E> x, Tile<const E> mask, const Lane<E>* fill, Tile<E> out) {
  Map<W, StoreKind::kPlain>(out, FillMap<W, E>{x, mask, Parameter<W, Lane<E>>(fill)});
}

// One fill for all: every column is like a run of one channel.
template <StoreKind S, class E>
void Clear(Tile<const E> x, Tile<const E> mask, Tile<E> out) {
  Map<Walk::kPlanar, S>(out, FillMap<Walk::kPlanar, E>{x, mask, Parameter<Walk::kPlanar, Lane<E>>(nullptr)});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
