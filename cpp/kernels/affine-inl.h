// Normalization with given statistics.
#pragma once

#include "kernels/map-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// y = (x - center) * scale + shift. Centred before it is scaled: right at any offset of the data.
template <Walk W, class T>
struct AffineMap {
  static constexpr std::size_t kInputs = 1;
  Tile<const T> x;
  Parameter<W, T> center, scale, shift;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<T> d = LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}) - center.At(j, lanes);
    return MulAdd(d, scale.At(j, lanes), shift.At(j, lanes));
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    center.SetRow(r);
    scale.SetRow(r);
    shift.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const T>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(x); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
};

template <Walk W, StoreKind S, class T>
void Affine(Tile<const T> x, AffineParameters<T> p, Tile<T> y) {
  using P = Parameter<W, T>;
  Map<W, S>(y, AffineMap<W, T>{x, P(p.center), P(p.scale), P(p.shift), p.rows});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
