// The backward pass: two sums over (dy, x), then the gradient of x. Both see g, which is dy taken back through the
// activation.
#pragma once

#include "kernels/activation-inl.h"
#include "kernels/map-inl.h"
#include "kernels/reduce-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// u = a = g, b = (x - center) * rstd
template <Walk W, Gate G, class E, class Acc>
struct GradientTerm {
  static constexpr std::size_t kInputs = 2 + kGateInputs<G>;
  Tile<const E> dy, x;
  Parameter<W, Lane<E>, Acc> center, rstd;
  GateAt<W, G, E, Acc> gate;
  template <class Lanes>
  BATCHNORM_INLINE Term<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<Acc> c = center.At(j, lanes);
    const Vec<Acc> d = Minus(LoadAs<Acc>(Row(x, r) + j, lanes, c), c);
    const Vec<Acc> g = gate(r, j, lanes, LoadAs<Acc>(Row(dy, r) + j, lanes, Vec<Acc>{}), d);
    return {g, g, d * rstd.At(j, lanes)};
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Start(std::size_t, Lanes) const {
    return Vec<Acc>{};
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Neutral(std::size_t, Lanes) const {
    return Vec<Acc>{};
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) {
    ToNextChannel(dy);
    ToNextChannel(x);
    center.SetRow(c);
    rstd.SetRow(c);
    gate.SetChannel(c);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    PrefetchAt(x, r, j);
    gate.Prefetch(r, j);
  }
};

// sum_g = sum of g, sum_g_xhat = sum of g * (x - center) * rstd, in lanes of Acc. Scaled inside the sum, because the
// product with x alone may leave the range of Acc.
template <Walk W, Gate G, class E, class Acc>
void GradientSums(const GradientTiles<E>& in, NormalizedParameters<Lane<E>> p, GateParameters<Lane<E>> gate,
                  double* sum_g, double* sum_g_xhat) {
  using P = Parameter<W, Lane<E>, Acc>;
  Reduce<W, E, Acc>(in.dy.rows, in.dy.cols, in.mask,
                    GradientTerm<W, G, E, Acc>{in.dy, in.x, P(p.center), P(p.rstd), {in, gate}}, sum_g, sum_g_xhat);
}

// u = a = dy and b = v, the value before the activation, where that is not positive; 0 elsewhere.
template <Walk W, Gate G, class E>
struct SlopeTerm {
  static constexpr std::size_t kInputs = 2;
  Tile<const E> dy, x;
  Parameter<W, Lane<E>, double> center, unslope;
  GateAt<W, G, E, double> gate;
  template <class Lanes>
  BATCHNORM_INLINE Term<double> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    F64 d{};
    if constexpr (G == Gate::kOfX) {
      const F64 c = center.At(j, lanes);
      d = LoadAs<double>(Row(x, r) + j, lanes, c) - c;
    }
    const F64 side = gate.Side(r, j, lanes, d);
    const F64 e = IfNotPositive(side, LoadAs<double>(Row(dy, r) + j, lanes, F64{}), F64{});
    const F64 v = IfNotPositive(side, G == Gate::kOfY ? side * unslope.At(j, lanes) : side, F64{});
    return {e, e, v};
  }
  template <class Lanes>
  BATCHNORM_INLINE F64 Start(std::size_t, Lanes) const {
    return F64{};
  }
  template <class Lanes>
  BATCHNORM_INLINE F64 Neutral(std::size_t, Lanes) const {
    return F64{};
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) {
    ToNextChannel(dy);
    ToNextChannel(x);
    if constexpr (G == Gate::kOfX) center.SetRow(c);
    if constexpr (G == Gate::kOfY) unslope.SetRow(c);
    gate.SetChannel(c);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return dy; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    if constexpr (G == Gate::kOfX) PrefetchAt(x, r, j);
    gate.Prefetch(r, j);
  }
};

template <Walk W, Gate G, class E>
void SlopeSums(const GradientTiles<E>& in, GateParameters<Lane<E>> gate, const Lane<E>* unslope, double* sum_dy,
               double* sum_dy_v) {
  using P = Parameter<W, Lane<E>, double>;
  Reduce<W, E, double>(in.dy.rows, in.dy.cols, in.mask,
                       SlopeTerm<W, G, E>{in.dy, in.x, P(gate.center), P(unslope), {in, gate}}, sum_dy, sum_dy_v);
}

// dx = ((g - mean_g) + (x - center) * slope) * scale
template <Walk W, Gate G, class E>
struct GradientMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = 2 + kGateInputs<G>;
  Tile<const E> dy, x;
  Parameter<W, T> mean_g, center, slope, scale;
  GateAt<W, G, E, T> gate;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<T> d = LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}) - center.At(j, lanes);
    const Vec<T> g = gate(r, j, lanes, LoadAs<T>(Row(dy, r) + j, lanes, Vec<T>{}), d);
    return MulAdd(d, slope.At(j, lanes), g - mean_g.At(j, lanes)) * scale.At(j, lanes);
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    mean_g.SetRow(r);
    center.SetRow(r);
    slope.SetRow(r);
    scale.SetRow(r);
    gate.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(dy) && RowsTouch(x) && gate.Touching(); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    PrefetchAt(x, r, j);
    gate.Prefetch(r, j);
  }
};

template <Walk W, Gate G, class E>
void Gradient(const GradientTiles<E>& in, GradientParameters<Lane<E>> p, GateParameters<Lane<E>> gate, Tile<E> dx) {
  using P = Parameter<W, Lane<E>>;
  Map<W>(dx, in.mask,
         GradientMap<W, G, E>{in.dy, in.x, P(p.mean_g), P(p.center), P(p.slope), P(p.scale), {in, gate}, p.rows});
}

// g * scale
template <Walk W, Gate G, class E>
struct GatedMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = G == Gate::kOpen ? 1 : 2;
  Tile<const E> dy, x;
  Parameter<W, T> center, scale;
  GateAt<W, G, E, T> gate;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    Vec<T> d{};
    if constexpr (G == Gate::kOfX) d = LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}) - center.At(j, lanes);
    return gate(r, j, lanes, LoadAs<T>(Row(dy, r) + j, lanes, Vec<T>{}), d) * scale.At(j, lanes);
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    if constexpr (G == Gate::kOfX) center.SetRow(r);
    scale.SetRow(r);
    gate.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return dy; }
  BATCHNORM_INLINE bool Touching() const {
    return RowsTouch(dy) && (G != Gate::kOfX || RowsTouch(x)) && gate.Touching();
  }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    if constexpr (G == Gate::kOfX) PrefetchAt(x, r, j);
    gate.Prefetch(r, j);
  }
};

template <Walk W, Gate G, class E>
void Gated(const GradientTiles<E>& in, const Lane<E>* scale, GateParameters<Lane<E>> gate, PlanarRows rows,
           Tile<E> out) {
  using P = Parameter<W, Lane<E>>;
  Map<W>(out, in.mask, GatedMap<W, G, E>{in.dy, in.x, P(gate.center), P(scale), {in, gate}, rows});
}

// out = (x - center) * of_x + dy * of_dy + y * of_y + constant
template <Walk W, class E>
struct CombineMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = 3;
  Tile<const E> dy, x, y;
  Parameter<W, T> center, of_x, of_dy, of_y, constant;
  PlanarRows rows;
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const auto load = [&](const Tile<const E>& tile) { return LoadAs<T>(Row(tile, r) + j, lanes, Vec<T>{}); };
    const Vec<T> of_others =
        MulAdd(load(dy), of_dy.At(j, lanes), MulAdd(load(y), of_y.At(j, lanes), constant.At(j, lanes)));
    return MulAdd(load(x) - center.At(j, lanes), of_x.At(j, lanes), of_others);
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    center.SetRow(r);
    of_x.SetRow(r);
    of_dy.SetRow(r);
    of_y.SetRow(r);
    constant.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return x; }
  BATCHNORM_INLINE bool Touching() const { return RowsTouch(dy) && RowsTouch(x) && RowsTouch(y); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    PrefetchAt(dy, r, j);
    PrefetchAt(x, r, j);
    PrefetchAt(y, r, j);
  }
};

template <Walk W, class E>
void Combine(const GradientTiles<E>& in, CombineParameters<Lane<E>> p, Tile<E> out) {
  using P = Parameter<W, Lane<E>>;
  MapTile<W>(out,
             CombineMap<W, E>{in.dy, in.x, in.y, P(p.center), P(p.of_x), P(p.of_dy), P(p.of_y), P(p.constant), p.rows});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
