// Minimum and maximum.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// What has been met so far. NaN is less than nothing, so it goes past.
template <class T>
struct Range {
  Vec<T> low, high;

  BATCHNORM_INLINE void Add(Vec<T> v) { Add(v, v); }
  BATCHNORM_INLINE void Add(const Range& other) { Add(other.low, other.high); }
  BATCHNORM_INLINE void Add(Vec<T> v, Vec<T> w) {
    low = IfLess(v, low, v, low);
    high = IfLess(high, w, w, high);
  }
};

template <class V>
BATCHNORM_INLINE V Touched(All, V v, V) {
  return v;
}
template <class V>
BATCHNORM_INLINE V Touched(First lanes, V v, V otherwise) {
  return Select(lanes, v, otherwise);
}

// Takes in the elements at a place, of those that count.
template <class E, class Lanes>
BATCHNORM_INLINE void AddAt(const Tile<const E>& x, const MaskTile& mask, std::size_t r, std::size_t j, Lanes lanes,
                            Range<Lane<E>>& range) {
  using T = Lane<E>;
  Range<T> next = range;
  next.Add(LoadAs<T>(Row(x, r) + j, lanes, Vec<T>{}));
  if constexpr (kHasMasks<E>) {
    if (mask.data != nullptr) {
      const Vec<Flag<T>> counts = CountsAt<T>(mask, r, j);
      next = {IfZero(counts, range.low, next.low), IfZero(counts, range.high, next.high)};
    }
  }
  range = {Touched(lanes, next.low, range.low), Touched(lanes, next.high, range.high)};
}

// Planar: of a channel's part of the tile.
template <class E>
BATCHNORM_INLINE void ExtremesOfTile(const Tile<const E>& x, const MaskTile& mask, Lane<E>* low, Lane<E>* high) {
  using T = Lane<E>;
  constexpr std::size_t kChains = 4;  // a comparison and a selection, each of 1 to 4 cycles, wait for the one before
  constexpr std::size_t kStep = kChains * kLanes<T>;
  struct At {
    const Tile<const E>& x;
    BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
  };
  const Ahead ahead(x, x.cols);
  Range<T> chains[kChains];
  for (Range<T>& chain : chains) chain = {Set(*low), Set(*high)};
  for (std::size_t r = 0; r < x.rows; ++r) {
    std::size_t j = 0;
    for (; j + kStep <= x.cols; j += kStep) {
      ahead.Prefetch<E>(At{x}, r, j, kStep);
      for (std::size_t k = 0; k < kChains; ++k) AddAt(x, mask, r, j + k * kLanes<T>, All{}, chains[k]);
    }
    for (; j + kLanes<T> <= x.cols; j += kLanes<T>) AddAt(x, mask, r, j, All{}, chains[0]);
    if (j < x.cols) AddAt(x, mask, r, j, First{x.cols - j}, chains[0]);
  }
  for (std::size_t k = 1; k < kChains; ++k) chains[0].Add(chains[k]);
  for (std::size_t i = 0; i < kLanes<T>; ++i) {
    if (chains[0].low[i] < *low) *low = chains[0].low[i];
    if (chains[0].high[i] > *high) *high = chains[0].high[i];
  }
}

// Rows: of every column (Note [Bands]).
template <class E>
BATCHNORM_INLINE void ExtremesOfColumns(Tile<const E> x, MaskTile mask, Lane<E>* low, Lane<E>* high) {
  using T = Lane<E>;
  for (std::size_t row = 0; row < x.rows; row += kBandLines) {
    const std::size_t band = Least(x.rows - row, kBandLines);
    ForEachVector<T>(x.cols, [&](std::size_t j, auto lanes) {
      Range<T> range{LoadAs<T>(low + j, lanes, Vec<T>{}), LoadAs<T>(high + j, lanes, Vec<T>{})};
      const bool new_line = x.source == Source::kMemory && j % (kLineBytes / sizeof(E)) == 0;
      for (std::size_t r = row; r < row + band; ++r) {
        if (new_line) PrefetchAt(x, r + kBandLines, j);
        AddAt(x, mask, r, j, lanes, range);
      }
      Store(range.low, low + j, lanes);
      Store(range.high, high + j, lanes);
    });
  }
}

// low = the least, high = the greatest of what they hold and of the elements that count, but for NaN.
template <Walk W, class E>
void Extremes(Tile<const E> x, MaskTile mask, Lane<E>* low, Lane<E>* high) {
  if constexpr (W == Walk::kPlanar) {
    for (std::size_t c = 0; c < x.channels; ++c, ToNextChannel(x)) ExtremesOfTile(x, mask, low + c, high + c);
  } else {
    ExtremesOfColumns(x, mask, low, high);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
