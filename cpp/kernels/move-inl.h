// Nothing but moving bytes: the limit of every job above.
#pragma once

#include "kernels/map-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

struct Copied {
  Tile<const float> a;
  static constexpr PlanarRows rows = PlanarRows::kRuns;
  template <class Lanes>
  BATCHNORM_INLINE F32 operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    return LoadAs<float>(Row(a, r) + j, lanes, F32{});
  }
  BATCHNORM_INLINE const Tile<const float>& input() const { return a; }
  BATCHNORM_INLINE void SetRow(std::size_t) {}
  BATCHNORM_INLINE bool Touching() const { return false; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(a, r, j); }
};

struct Added {
  Copied a, b;
  static constexpr PlanarRows rows = PlanarRows::kRuns;
  template <class Lanes>
  BATCHNORM_INLINE F32 operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    return a(r, j, lanes) + b(r, j, lanes);
  }
  BATCHNORM_INLINE const Tile<const float>& input() const { return a.input(); }
  BATCHNORM_INLINE void SetRow(std::size_t) {}
  BATCHNORM_INLINE bool Touching() const { return false; }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const {
    a.Prefetch(r, j);
    b.Prefetch(r, j);
  }
};

// n floats as one row.
template <class T>
BATCHNORM_INLINE Tile<T> Line(T* p, std::size_t n, StoreKind store = StoreKind::kPlain) {
  Tile<T> line = {p, 1, n, static_cast<std::ptrdiff_t>(n), Source::kMemory};
  line.store = store;
  return line;
}

// The sum of what `at` gives, in eight chains so that reading is all that takes time.
template <class At>
BATCHNORM_INLINE float Drain(std::size_t n, At at) {
  constexpr std::size_t kChains = 8;
  constexpr std::size_t kStep = kChains * kLanes<float>;
  const Ahead ahead(at.input(), n);
  F32 s[kChains] = {};
  std::size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    ahead.Prefetch<float>(at, 0, i, kStep);
    for (std::size_t k = 0; k < kChains; ++k) s[k] += at(0, i + k * kLanes<float>, All{});
  }
  for (; i + kLanes<float> <= n; i += kLanes<float>) s[0] += at(0, i, All{});
  if (i < n) s[0] += at(0, i, First{n - i});
  for (std::size_t k = 1; k < kChains; ++k) s[0] += s[k];
  return ReduceSum<float>(s[0]);
}

float Read1(const float* a, std::size_t n) { return Drain(n, Copied{Line(a, n)}); }

float Read2(const float* a, const float* b, std::size_t n) { return Drain(n, Added{{Line(a, n)}, {Line(b, n)}}); }

void Copy(const float* a, float* out, std::size_t n, StoreKind store) {
  MapTile<Walk::kPlanar>(Line(out, n, store), Copied{Line(a, n)});
}

void Read2Write1(const float* a, const float* b, float* out, std::size_t n, StoreKind store) {
  MapTile<Walk::kPlanar>(Line(out, n, store), Added{{Line(a, n)}, {Line(b, n)}});
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
