// First and second moment about a pivot.
#pragma once

#include "kernels/reduce-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// Whether the sum of x - pivot is one of x, from which the pivots are taken in the end: a sum that keeps what it loses
// takes x as it lies in memory, where x - pivot may be rounded, and a product of a count and a pivot is exact.
template <class Acc>
constexpr bool kPivotLast = sizeof(Acc) < sizeof(double);

// u = a = b = x - pivot, but u = x where the pivot comes last.
template <Walk W, class E, class Acc>
struct MomentTerm {
  static constexpr std::size_t kInputs = 1;
  Tile<const E> x;
  Parameter<W, Lane<E>, Acc> pivot;
  template <class Lanes>
  BATCHNORM_INLINE Term<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<Acc> p = pivot.At(j, lanes);
    const Vec<Acc> v = LoadAs<Acc>(Row(x, r) + j, lanes, p);
    const Vec<Acc> d = Minus(v, p);
    return {kPivotLast<Acc> ? OnlyFirst(lanes, v) : d, d, d};
  }
  // Note [Exact u]
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Start(std::size_t j, Lanes lanes) const {
    if constexpr (kKeepsLost<E, Acc>) {
      return pivot.At(j, lanes) + pivot.At(j, lanes);
    } else {
      return Vec<Acc>{};
    }
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Neutral(std::size_t j, Lanes lanes) const {
    return kPivotLast<Acc> ? OnlyFirst(lanes, pivot.At(j, lanes)) : Vec<Acc>{};
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) {
    ToNextChannel(x);
    pivot.SetRow(c);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
};

// With the pivots of these columns, which GCC would convert to Acc every four rows.
template <class E, class Acc, class Lanes>
BATCHNORM_INLINE auto OfColumns(const MomentTerm<Walk::kRows, E, Acc>& term, std::size_t j, Lanes lanes) {
  using P = Parameter<Walk::kPlanar, Lane<E>, Acc>;
  return MomentTerm<Walk::kPlanar, E, Acc>{term.x, P(term.pivot.At(j, lanes))};
}

// sum = sum of (x - pivot), sum2 = sum of (x - pivot)^2, in lanes of Acc.
template <Walk W, class E, class Acc>
void Moments(Tile<const E> x, MaskTile mask, const Lane<E>* pivot, double* sum, double* sum2) {
  Reduce<W, E, Acc>(x.rows, x.cols, mask, MomentTerm<W, E, Acc>{x, Parameter<W, Lane<E>, Acc>(pivot)}, sum, sum2);
  if constexpr (kPivotLast<Acc>) {
    const std::size_t sums = W == Walk::kPlanar ? x.channels : x.cols;
    const double values = static_cast<double>(W == Walk::kPlanar ? x.rows * x.cols : x.rows);
    for (std::size_t j = 0; j < sums; ++j) sum[j] -= values * static_cast<double>(pivot[j]);
  }
}

// u = a = w * d, b = d = x - pivot, and 0 where w is 0.
template <Walk W>
struct WeightedTerm {
  static constexpr std::size_t kInputs = 2;
  Tile<const double> x, w;
  Parameter<W, double> pivot;
  template <class Lanes>
  BATCHNORM_INLINE Term<double> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const F64 weight = w.cols == 1 ? Set(*Row(w, r)) : LoadAs<double>(Row(w, r) + j, lanes, F64{});
    const F64 p = pivot.At(j, lanes);
    const F64 d = IfZero(weight, F64{}, LoadAs<double>(Row(x, r) + j, lanes, p) - p);
    return {weight * d, weight * d, d};
  }
  template <class Lanes>
  BATCHNORM_INLINE F64 Start(std::size_t, Lanes) const {
    return F64{};
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) {
    ToNextChannel(x);
    pivot.SetRow(c);
  }
  BATCHNORM_INLINE const Tile<const double>& input() const { return x; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
};

template <Walk W>
void WeightedMoments(Tile<const double> x, Tile<const double> w, const double* pivot, double* sum, double* sum2) {
  ReduceTerm<W, double, double>(x.rows, x.cols, WeightedTerm<W>{x, w, Parameter<W, double>(pivot)}, sum, sum2);
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
