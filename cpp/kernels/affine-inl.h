// Normalization with given statistics.
#pragma once

#include "kernels/activation-inl.h"
#include "kernels/map-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// y = (x - center) * scale + shift. Centred before it is scaled: right at any offset of the data.
template <Walk W, Fusion F, class E>
struct AffineMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = F == Fusion::kResidual ? 2 : 1;
  Tile<const E> x, residual;
  Parameter<W, T> center, scale, shift, slope;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<T> d = LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}) - center.At(j, lanes);
    Vec<T> v = MulAdd(d, scale.At(j, lanes), shift.At(j, lanes));
    if constexpr (F == Fusion::kResidual) v += LoadAs<T>(Row(residual, r) + j, lanes, Vec<T>{});
    if constexpr (F != Fusion::kNone) v = Rectifier<Vec<T>>{slope.At(j, lanes)}(v);
    return v;
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    center.SetRow(r);
    scale.SetRow(r);
    shift.SetRow(r);
    if constexpr (F != Fusion::kNone) slope.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(x) && (F != Fusion::kResidual || RowsTouch(residual)); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(x, r, j);
    if constexpr (F == Fusion::kResidual) PrefetchAt(residual, r, j);
  }
};

template <Walk W, Fusion F, class E>
void Affine(Tile<const E> x, Tile<const E> residual, MaskTile mask, AffineParameters<Lane<E>> p, Tile<E> y) {
  using P = Parameter<W, Lane<E>>;
  Map<W>(y, mask, AffineMap<W, F, E>{x, residual, P(p.center), P(p.scale), P(p.shift), P(p.slope), p.rows});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
