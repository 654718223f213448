// First and second moment about a pivot.
#pragma once

#include "kernels/reduce-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// u = v = x - pivot
template <Walk W, class T, class Acc>
struct MomentTerm {
  Tile<const T> x;
  Parameter<W, T, Acc> pivot;
  template <class Lanes>
  BATCHNORM_INLINE Term<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<Acc> p = pivot.At(j, lanes);
    const Vec<Acc> d = LoadAs<Acc>(Row(x, r) + j, lanes, p) - p;
    return {d, d};
  }
};

// sum = sum of (x - pivot), sum2 = sum of (x - pivot)^2, in lanes of Acc.
template <Walk W, class T, class Acc>
void Moments(Tile<const T> x, const T* pivot, double* sum, double* sum2) {
  Reduce<W, Acc>(x.rows, x.cols, MomentTerm<W, T, Acc>{x, Parameter<W, T, Acc>(pivot)}, sum, sum2);
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
