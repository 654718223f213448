// The backward pass: two sums over (dy, x), then the gradient of x.
#pragma once

#include "kernels/map-inl.h"
#include "kernels/reduce-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// u = a = dy, b = (x - center) * rstd
template <Walk W, class T, class Acc>
struct GradientTerm {
  static constexpr std::size_t kInputs = 2;
  Tile<const T> dy, x;
  Parameter<W, T, Acc> center, rstd;
  template <class Lanes>
  BATCHNORM_INLINE Term<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<Acc> c = center.At(j, lanes);
    const Vec<Acc> d = Minus(LoadAs<Acc>(Row(x, r) + j, lanes, c), c);
    const Vec<Acc> e = LoadAs<Acc>(Row(dy, r) + j, lanes, Vec<Acc>{});
    return {e, e, d * rstd.At(j, lanes)};
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Start(std::size_t, Lanes) const {
    return Vec<Acc>{};
  }
  BATCHNORM_INLINE const Tile<const T>& input() const { return x; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    PrefetchAt(x, r, j);
  }
};

// sum_dy = sum of dy, sum_dy_xhat = sum of dy * (x - center) * rstd, in lanes of Acc. Scaled inside the sum, because
// the product with x alone may leave the range of Acc.
template <Walk W, class T, class Acc>
void GradientSums(Tile<const T> dy, Tile<const T> x, NormalizedParameters<T> p, double* sum_dy, double* sum_dy_xhat) {
  using P = Parameter<W, T, Acc>;
  Reduce<W, T, Acc>(dy.rows, dy.cols, GradientTerm<W, T, Acc>{dy, x, P(p.center), P(p.rstd)}, sum_dy, sum_dy_xhat);
}

// dx = ((dy - mean_dy) + (x - center) * slope) * scale
template <Walk W, class T>
struct GradientMap {
  static constexpr std::size_t kInputs = 2;
  Tile<const T> dy, x;
  Parameter<W, T> mean_dy, center, slope, scale;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<T> e = LoadAs<T>(Row(dy, r) + j, lanes, Vec<T>{}) - mean_dy.At(j, lanes);
    const Vec<T> d = LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}) - center.At(j, lanes);
    return MulAdd(d, slope.At(j, lanes), e) * scale.At(j, lanes);
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    mean_dy.SetRow(r);
    center.SetRow(r);
    slope.SetRow(r);
    scale.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const T>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(dy) && RowsTouch(x); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    PrefetchAt(x, r, j);
  }
};

template <Walk W, StoreKind S, class T>
void Gradient(Tile<const T> dy, Tile<const T> x, GradientParameters<T> p, Tile<T> dx) {
  using P = Parameter<W, T>;
  Map<W, S>(dx, GradientMap<W, T>{dy, x, P(p.mean_dy), P(p.center), P(p.slope), P(p.scale), p.rows});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
