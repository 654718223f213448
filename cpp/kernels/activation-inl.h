// Activations: what becomes of a value, and of its gradient. Another one is another functor here.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// ReLU (slope 0), leaky ReLU and PReLU. NaN stays NaN, and infinity times a slope of 0 is 0. At 0 the derivative is the
// slope, as in PyTorch.
template <class V>
struct Rectifier {
  V slope;

  BATCHNORM_INLINE V Scaled(V v) const { return IfZero(slope, V{}, v * slope); }
  BATCHNORM_INLINE V operator()(V v) const { return IfNotPositive(v, Scaled(v), v); }
  // dy back through the activation; `side` is the value before it, or any of the same sign.
  BATCHNORM_INLINE V Gradient(V dy, V side) const { return IfNotPositive(side, Scaled(dy), dy); }
};

// The side of the kink, and dy taken back through it. `d` is x - center.
template <Walk W, Gate G, class E, class Acc>
struct GateAt {
  using P = Parameter<W, Lane<E>, Acc>;
  Tile<const E> y;
  P scale, shift, slope;

  BATCHNORM_INLINE GateAt(const GradientTiles<E>& in, const GateParameters<Lane<E>>& p)
      : y(in.y), scale(p.scale), shift(p.shift), slope(p.slope) {}

  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Side(std::size_t r, std::size_t j, Lanes lanes, Vec<Acc> d) const {
    if constexpr (G == Gate::kOfX) {
      return MulAdd(d, scale.At(j, lanes), shift.At(j, lanes));
    } else {
      return LoadAs<Acc>(Row(y, r) + j, lanes, Vec<Acc>{});
    }
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes, Vec<Acc> dy, Vec<Acc> d) const {
    if constexpr (G == Gate::kOpen) {
      return dy;
    } else {
      return Rectifier<Vec<Acc>>{slope.At(j, lanes)}.Gradient(dy, Side(r, j, lanes, d));
    }
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    if constexpr (G == Gate::kOfX) {
      scale.SetRow(r);
      shift.SetRow(r);
    }
    if constexpr (G != Gate::kOpen) slope.SetRow(r);
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) {
    ToNextChannel(y);
    SetRow(c);
  }
  BATCHNORM_INLINE bool Touching() const { return G != Gate::kOfY || RowsTouch(y); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    if constexpr (G == Gate::kOfY) PrefetchAt(y, r, j);
  }
};

// Arrays that a kernel with this gate reads beside dy.
template <Gate G>
constexpr std::size_t kGateInputs = G == Gate::kOfY ? 1 : 0;

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
